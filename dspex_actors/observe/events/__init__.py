"""The events of a node: the store and the actor that writes it, what reads it, and the face for programs."""

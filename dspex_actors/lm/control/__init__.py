"""The side of an LM that is one process for the whole node: its client actor and its budget."""

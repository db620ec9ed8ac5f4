"""Telemetry of a node: the actor that merges what processes tell, what tells it, who reads it, and the exporters."""

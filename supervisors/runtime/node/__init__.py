"""The processes that make a node: daemon, door and the registry of names."""

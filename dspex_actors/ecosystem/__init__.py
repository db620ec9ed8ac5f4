"""Ecosystems: actors that serve one thing together, supervised on their own; members find each other by role."""

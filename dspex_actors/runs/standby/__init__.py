"""Copies of a run on other nodes: which must have a batch before it counts, and who may go on with it."""

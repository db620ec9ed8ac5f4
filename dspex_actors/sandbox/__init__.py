"""Runs code that an LM has written: in a child of its own, which can reach nothing but a scratch folder."""

"""Bytes: values, pickles, messages, sealed frames, keys. What travels between processes, and how it is refused."""

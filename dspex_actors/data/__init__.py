"""Datasets: examples one at a time from a file, a list, a generator or a spool; never loaded whole."""

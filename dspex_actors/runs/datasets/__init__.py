"""Datasets of runs on nodes that cannot read their paths: copies by digest, fetched in pieces from a node that can."""

"""Runs: what one is made of, and the actors that keep it and carry it out."""

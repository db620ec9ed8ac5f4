"""Batches: many requests at once, for half the price, answered within a day. Who asks waits."""

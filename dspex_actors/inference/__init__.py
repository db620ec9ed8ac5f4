"""Endless inputs through a program on all workers, in constant memory: `dspex.stream_inference`."""

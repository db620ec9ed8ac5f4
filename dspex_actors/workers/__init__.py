"""The http workers: program calls and LM calls, hundreds at a time, on one event loop."""

"""The vocabulary: specs, references, reasons, errors, views. Frozen data, no I/O; everything else is written in it."""

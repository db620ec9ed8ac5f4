"""What a run is: digests of program, metric, LM and settings that every process computes alike."""

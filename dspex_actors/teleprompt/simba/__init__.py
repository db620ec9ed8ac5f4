"""SIMBA: a program is tried several ways on small batches; what went well and what did not becomes demos and rules."""

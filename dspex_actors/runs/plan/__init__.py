"""The evaluator's decisions: who gets which examples, when it stops, what is billed. Pure."""

"""The evaluator: the actor that carries out one run."""

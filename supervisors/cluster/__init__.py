"""Several nodes that know each other."""

"""Applications: supervision trees with dependencies, which are started and stopped as a whole."""

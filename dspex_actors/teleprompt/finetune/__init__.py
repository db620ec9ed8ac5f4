"""BootstrapFinetune: what a teacher answered well, as the files that providers train an LM with."""

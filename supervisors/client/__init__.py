"""The program's side of a node: starting one, attaching to one, and calling into its tree."""

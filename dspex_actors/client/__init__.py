"""The program's side: connecting to a node, evaluating, and reading what came out."""

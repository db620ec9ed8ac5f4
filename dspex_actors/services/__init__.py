"""Services: who does what on a node, found by name or by what it can; and how each of them is."""

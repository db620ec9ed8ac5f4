"""Many nodes as one: who is there, who owns what, and where it runs."""

"""Optimisations that the node carries out: who keeps them, and who carries one out."""

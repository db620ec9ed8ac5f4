"""Signatures: what a language-model program takes, what it gives, and its instructions."""

"""The journal in a PostgreSQL server: one for all nodes that use it."""

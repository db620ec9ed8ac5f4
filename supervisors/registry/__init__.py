"""Registry: keys that processes register, found by key or pattern."""

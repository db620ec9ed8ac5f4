"""Small values that all nodes share: changed by compare and set, and watched."""

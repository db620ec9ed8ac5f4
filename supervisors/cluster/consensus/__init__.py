"""Groups that decide together: each member votes by a function of its own."""

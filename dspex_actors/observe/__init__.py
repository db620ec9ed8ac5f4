"""Events and metrics of a whole node: the actors that keep them, what tells them, and what reads them."""

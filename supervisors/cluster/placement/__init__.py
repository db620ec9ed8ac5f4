"""Where a child is started, and what there is one of in a cluster."""

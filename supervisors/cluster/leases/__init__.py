"""Who owns what, with an epoch: leases that end by themselves, and small values that are changed by compare and set."""

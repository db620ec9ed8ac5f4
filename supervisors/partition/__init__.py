"""PartitionSupervisor: n copies of one child, and keys that lead to them."""

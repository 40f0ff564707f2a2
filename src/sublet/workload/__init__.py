"""Floor 5: programs on top of leases, one folder each."""

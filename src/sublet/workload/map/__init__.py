"""Many tasks on a few machines: each worker is a lease that runs one after the other."""

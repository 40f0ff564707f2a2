"""Floor 4: the tenant's client."""

"""Floor 6: the provider's agent."""

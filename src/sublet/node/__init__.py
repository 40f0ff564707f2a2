"""Floor 6: the market node."""

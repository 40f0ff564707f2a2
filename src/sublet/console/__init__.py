"""Floor 6: live views of a market."""

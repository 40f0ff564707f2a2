"""The order book: what the market knows, and how a fact changes it."""

"""Floor 2: the rules of the market, as pure functions over facts."""

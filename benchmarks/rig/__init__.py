"""What benchmarks share: how figures are shown, a market's traffic, a load."""

"""Floor 1: units, ids, limits, errors. Knows nobody, holds no cleverness."""

"""Double-entry accounts with two-phase holds."""

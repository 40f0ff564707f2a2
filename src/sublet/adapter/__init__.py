"""Floor 4: one small file per port and technology."""

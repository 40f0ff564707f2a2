"""A statement as text that people and other programs read: one file per format."""

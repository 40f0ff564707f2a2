"""How likely it is that a machine lasts, from what the book knows of its owner."""

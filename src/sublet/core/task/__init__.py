"""Many tasks on a few workers: who gets what, what is tried again, what is left."""

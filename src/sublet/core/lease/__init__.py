"""The life of a lease: phases, deadlines, what is owed."""

"""Floor 3: documents as bytes, and the signatures under them. Beside ``service``."""

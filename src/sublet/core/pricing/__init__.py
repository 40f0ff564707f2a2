"""What an owner must ask for at least, and why."""

"""A job: attempts, retries, checkpoints, progress."""

"""A witness: follows markets' logs, cosigns what goes on, keeps what does not."""

"""Looks after detached jobs: a tenant in a delegation's bounds, that reads nothing."""

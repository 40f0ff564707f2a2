"""Renders: a job cut into units, rendered by strangers, checked, and joined again."""

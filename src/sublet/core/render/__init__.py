"""Renders: how a job is cut into units, how their pictures are joined and checked."""

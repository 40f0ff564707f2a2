"""What machines were let for: kinds, deals, hours, quantiles."""

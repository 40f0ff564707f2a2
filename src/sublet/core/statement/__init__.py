"""What an account did over a time, as exact lines: the base of statements and exports."""

"""The stake contract's rules as pure functions: the reference it is tested against."""

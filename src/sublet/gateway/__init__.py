"""A gateway that sells an HTTP service to programs which pay by x402."""

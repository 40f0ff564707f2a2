"""An owner and their machine: hours, rules, when it is on offer. Pure."""

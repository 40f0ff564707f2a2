"""What Sublet's speed claims rest on: one module per benchmark, all real parts."""

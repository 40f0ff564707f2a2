"""Which machine, which GPUs: packing slices so that what is left stays useful."""

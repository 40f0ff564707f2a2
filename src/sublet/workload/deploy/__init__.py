"""Services by a file: SDL 2.0 and 2.1, a Compose file's common part, sublet.yaml."""

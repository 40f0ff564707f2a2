"""Not a module of ours: what runs inside the sandboxes reads what lies there."""

collect_ignore = ["hostile.py"]

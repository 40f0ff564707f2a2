"""The door: ``sublet``."""


def main() -> None:
    """Run the command line."""
    raise SystemExit(0)

"""The door: ``sublet``. Decides whether a warm process runs the command.

Nothing heavy is imported before that is decided.
"""

import os
import sys

from sublet.cli.handover import SOCKET_NAME, hand_over

# Verbs that a warm process may run: all others live long, or are not a tenant's.
WARM_VERBS = frozenset(
    {
        "run",
        "map",
        "quote",
        "prices",
        "orders",
        "bids",
        "choose",
        "cancel",
        "ps",
        "logs",
        "stop",
        "cp",
        "ssh",
        "port",
        "cost",
        "wallet",
    }
)


def main() -> int:
    """Run the command line; give the exit code."""
    argv = sys.argv[1:]
    if argv and argv[0] in WARM_VERBS and not os.environ.get("SUBLET_NO_WARM"):
        home = os.environ.get("SUBLET_HOME") or os.path.expanduser("~/.sublet")  # noqa: PTH111
        code = hand_over(f"{home}/{SOCKET_NAME}", argv)
        if code is not None:
            return code
    from sublet.cli.root import run_command

    return run_command(argv)


if __name__ == "__main__":
    sys.exit(main())

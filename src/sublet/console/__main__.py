"""``python -m sublet.console``: a market, live, in a terminal."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from sublet.base.errors import SubletError
from sublet.console.screen import follow_live
from sublet.console.watch import Watch


def main(argv: Sequence[str] | None = None) -> int:
    """Follow a market until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sublet.console")
    parser.add_argument("--market", default="http://127.0.0.1:8470")
    parser.add_argument(
        "--plain", action="store_true", help="lines, even on a terminal"
    )
    wish = parser.parse_args(argv)
    watch = Watch(url=wish.market.rstrip("/"))
    try:
        follow_live(watch, console=Console(highlight=False), is_plain=wish.plain)
    except KeyboardInterrupt:
        return 0
    except SubletError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())

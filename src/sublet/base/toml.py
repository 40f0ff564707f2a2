"""TOML within limits: what people write into files, and strangers into scripts.

The parser of the standard library answers some short texts with other errors than its
own, and takes time by the square of a dotted key's length; both end here.
"""

import tomllib
from typing import Any

from sublet.base.errors import Refused

TOML_LENGTH_MAX = 262_144  # characters of a file
# A key stands on one line, so that many dots are the most that a key can have.
LINE_DOTS_MAX = 256


class BadToml(Refused):
    """This is not TOML, or too much of it."""

    code = "bad_toml"


def parse_toml(text: str, *, length_max: int = TOML_LENGTH_MAX) -> dict[str, Any]:
    """Read a table.

    Raises:
        BadToml: it is none, or longer or deeper than anybody needs.

    >>> parse_toml("[a]\\nb = 1")
    {'a': {'b': 1}}
    """
    if len(text) > length_max:
        raise BadToml(f"it is larger than {length_max} characters")
    if max(line.count(".") for line in text.split("\n")) > LINE_DOTS_MAX:
        raise BadToml(
            f"a line has more than {LINE_DOTS_MAX} dots; write lists one a line"
        )
    try:
        return tomllib.loads(text)
    except ValueError as error:  # its own, and those of numbers too long to be read
        raise BadToml(str(error)) from error
    except RecursionError as error:
        raise BadToml("it is nested too deeply") from error

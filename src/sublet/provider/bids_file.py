"""What an owner writes into ``config.toml`` about bids for live orders: ``[bids]``."""

import re
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sublet.base.errors import Refused, SubletError
from sublet.base.units import parse_duration
from sublet.provider.owner_file import Reader

_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*=[^\0]*\Z", re.DOTALL)


class BidsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bids]``: what is bid for live orders."""

    program: Annotated[str, Meta(max_length=4_096)] = ""
    style: Literal["sublet", "akash", "akash-array"] = "sublet"
    timeout: str = "5s"
    processes: Annotated[int, Meta(ge=1, le=64)] = 4
    user: Annotated[str, Meta(min_length=1, max_length=32)] = "nobody"
    env: Annotated[tuple[str, ...], Meta(max_length=256)] = ()


class BidRules(Struct, frozen=True):
    """How this provider comes to its bids."""

    program: str = ""  # an executable; "" bids the listed prices
    style: str = "sublet"  # what it is asked in: one of core.pricing.question.STYLES
    timeout_s: int = 5
    processes: int = 4  # of it at one time
    user: str = "nobody"  # whose rights it has, where the provider is root
    env: tuple[str, ...] = ()  # "NAME=value"

    # Owners put their programs' keys there.
    def __repr__(self) -> str:
        return f"BidRules({self.program!r}, {self.style!r})"


def read_bids(file: BidsFile, faults: list[SubletError]) -> BidRules:
    """Give the table its final shape; what is wrong goes into ``faults``. Pure."""
    reader = Reader(faults)
    return BidRules(
        program=file.program,
        style=file.style,
        timeout_s=reader.one(
            file.timeout, partial(parse_duration, field="bids.timeout"), 0
        ),
        processes=file.processes,
        user=file.user,
        env=reader.all(file.env, _check_variable),
    )


def compose_bids(rules: BidRules) -> str:
    """Write the table, with what its words mean."""
    env = ", ".join(_text(line) for line in rules.env)
    return f"""\
[bids]  # for live orders; without a program, the prices above are bid
program = {_text(rules.program)}  # full path of any executable: JSON in, a price out
style = "{rules.style}"  # "akash": it was written for Akash; "akash-array": before 2023
timeout = "{rules.timeout_s}s"  # it is killed then, and there is no bid
processes = {rules.processes}  # of it at one time
user = {_text(rules.user)}  # it has this user's rights where the provider runs as root
env = [{env}]  # "NAME=value": what it is told besides
"""


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()


def _check_variable(text: str) -> str:
    if _VARIABLE.match(text) is None:
        name = text.partition("=")[0]  # a value may be a secret
        raise Refused(
            f"bids.env: {name[:80]!r} sets no variable; write NAME=value",
            code="bad_variable",
            field="bids.env",
        )
    return text

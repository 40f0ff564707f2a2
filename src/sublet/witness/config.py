"""A witness's folder: its key, what it is told, and which markets it follows.

config.toml      where it listens, how often it looks
key              signs cosignatures and nothing else
markets/         one file per market: address, id and the key of its log, pinned
logs/            what was cosigned last, and evidence (``checkpoint_folder``)
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.base.toml import BadToml, parse_toml

CONFIG_FILE = "config.toml"
KEY_FILE = "key"
MARKETS_MAX = 1_000
_FILE_BYTES_MAX = 65_536

Wait = Annotated[int, Meta(ge=1, le=86_400)]  # seconds
Listen = Annotated[str, Meta(pattern=r"\A(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}\Z")]


class WitnessConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``config.toml`` as people write it."""

    listen: Listen = "127.0.0.1:8480"
    poll_s: Wait = 30  # between two looks at each market


class Pin(Struct, frozen=True):
    """A market that is followed; its key stays what it was when it was added."""

    url: str  # of a node; of several, with commas between them
    market: Digest
    verifier_key: str  # of its log
    name: str


def read_config(home: Path) -> WitnessConfig:
    """Read ``config.toml``.

    Raises:
        Refused: there is none, or a setting is wrong.
    """
    path = home / CONFIG_FILE
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
        return msgspec.convert(table, WitnessConfig)
    except FileNotFoundError:
        raise Refused(
            f"there is no witness in {home}; make one with: sublet witness init "
            f"--home {home}",
            code="no_witness",
            field="--home",
        ) from None
    except (BadToml, UnicodeDecodeError, msgspec.MsgspecError) as exc:
        raise Refused(f"{path}: {exc}", code="bad_setting", field=str(path)) from exc


def write_config(home: Path) -> None:
    """Write a first ``config.toml``.

    Raises:
        Refused: there is one already; it is not touched.
    """
    default = WitnessConfig()
    text = (
        "# A Sublet witness. All settings: docs/reference/settings.md\n"
        f'listen = "{default.listen}"\n'
        f"poll_s = {default.poll_s}\n"
    )
    try:
        with (home / CONFIG_FILE).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Refused(
            f"{home / CONFIG_FILE} exists; a witness is there already",
            code="witness_exists",
            field="--home",
        ) from None


def read_pins(home: Path) -> list[Pin]:
    """Give the markets that are followed.

    Raises:
        Refused: a file is damaged.
    """
    pins = []
    for path in sorted((home / "markets").glob("*.json"))[:MARKETS_MAX]:
        try:
            pins.append(msgspec.json.decode(path.read_bytes(), type=Pin))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise Refused(
                f"{path} is damaged: {exc}; remove it and add the market again",
                code="bad_pin",
                field=str(path),
            ) from exc
    return pins


def write_pin(home: Path, pin: Pin) -> None:
    """Follow a market from now on.

    Raises:
        Refused: it is followed already with another key (``pin_differs``).
    """
    path = home / "markets" / f"{pin.market[2:]}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        known = msgspec.json.decode(path.read_bytes(), type=Pin)
        if known.verifier_key != pin.verifier_key:
            raise Refused(
                f"market {pin.market} is followed with key {known.verifier_key}; a "
                f"log's key does not change. Look into it before you remove {path}",
                code="pin_differs",
            )
    path.write_bytes(msgspec.json.encode(pin))

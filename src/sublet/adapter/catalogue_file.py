"""Reads a catalogue of clouds' prices: the one that comes with Sublet, or another."""

from importlib import resources
from pathlib import Path

from sublet.base.errors import Refused
from sublet.core.pricing.catalogue import Instance, parse_catalogue

OWN = "data/gpu_price_catalogue.csv"  # in the package, beside its licence
BYTES_MAX = 64 << 20


def read_catalogue(path: Path | None) -> tuple[Instance, ...]:
    """Read a catalogue; without a path, the one that comes along.

    Raises:
        Refused: ``bad_catalogue``: no such file, too large, or not a catalogue.
    """
    if path is None:
        own = resources.files("sublet").joinpath(OWN)
        return parse_catalogue(own.read_text("utf-8"), name=own.name)
    try:
        with path.expanduser().open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Refused(
            f"--catalogue: {path} cannot be read: {why}; name a CSV file",
            code="bad_catalogue",
            field="--catalogue",
        ) from error
    if len(raw) > BYTES_MAX:
        raise Refused(
            f"--catalogue: {path} is larger than {BYTES_MAX} bytes",
            code="bad_catalogue",
            field="--catalogue",
        )
    return parse_catalogue(text, name=path.name)

"""Sources of prices that say the same for an hour: a recording around now."""

import time
from pathlib import Path

import msgspec

from sublet.core.pricing.reading import E8, Reading, Round

BEFORE_S, AFTER_S, EVERY_S = 2_700, 900, 60


def write_feeds(place: Path, address: str, *, render: int, usdc: int = E8) -> Path:
    """Write settings, and a recording in which two sources say this all the time."""
    now_s = int(time.time())
    rounds = [
        Round(
            at_s=at_s,
            readings=tuple(
                Reading(
                    source=source,
                    token=token,
                    price_e8=price_e8,
                    published_at_s=at_s,
                    fresh_s=300,
                )
                for source in ("one", "other")
                for token, price_e8 in (("RENDER", render), ("USDC", usdc))
            ),
        )
        for at_s in range(now_s - BEFORE_S, now_s + AFTER_S, EVERY_S)
    ]
    lines = place.with_suffix(".jsonl")
    lines.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in rounds))
    place.write_text(
        f'every = "5s"\nrecorded = "{lines.name}"\n'
        f'[tokens.RENDER]\ndecimals = 18\naddress = "{address}"\n'
        f"[tokens.USDC]\ndecimals = 6\ndollar = true\n"
    )
    return place

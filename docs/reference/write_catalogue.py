"""Write the catalogue of clouds' prices that comes with Sublet, from a larger one.

    python docs/reference/write_catalogue.py gpu_price_catalogue.csv

Taken are the rows whose source allows it (MIT), of the newest date, each once, but for
those of a few small clouds that say "4-6" where a number belongs. The columns stay as
they are, so that source and date stand in each row.
"""

import csv
import io
import re
import sys
from pathlib import Path

SOURCE = "the-full-stack/website"  # docs/cloud-gpus, MIT
NUMBERS = ("gpu_count", "vcpu", "mem_gib", "on_demand_usd_h", "spot_usd_h")
_NUMBER = re.compile(r"\A[0-9.]*\Z")
PAGE = Path(__file__).parents[2] / "src/sublet/data/gpu_price_catalogue.csv"


def render(text: str) -> str:
    """Give the rows that come along, as CSV."""
    reader = csv.DictReader(io.StringIO(text))
    ours = [row for row in reader if row["source"] == SOURCE]
    newest = max(row["as_of"] for row in ours)
    out = io.StringIO()
    writer = csv.DictWriter(out, reader.fieldnames or (), lineterminator="\n")
    writer.writeheader()
    seen: set[tuple[str, ...]] = set()
    for row in ours:
        if not all(_NUMBER.match(row[name]) for name in NUMBERS):
            continue
        if row["as_of"] == newest and tuple(row.values()) not in seen:
            seen.add(tuple(row.values()))
            writer.writerow(row)
    return out.getvalue()


if __name__ == "__main__":
    PAGE.write_text(render(Path(sys.argv[1]).read_text("utf-8")), encoding="utf-8")

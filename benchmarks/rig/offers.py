"""A large market, drawn from a seed: offers and orders as people make them.

Models, prices and how many GPUs a machine has follow public lists of rented GPUs:
half-hourly snapshots of a marketplace, 2025-10-19 to 2025-11-02 (tugot17/
gpu-price-tracker, MIT; the data centre models), and a catalogue of clouds and Vast.ai,
2025-03 (the-full-stack/website, MIT, and skypilot-org/skypilot-catalog; the others).
"""

from collections.abc import Iterator
from hashlib import sha256
from random import Random
from typing import NamedTuple

import msgspec

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.record import OfferRecord
from sublet.core.document import Offer, Order

GIB = 1 << 30
NOW_S = 1_800_000_000


class Model(NamedTuple):
    """A GPU as it is rented out; prices are $ an hour for one."""

    name: str
    memory_gib: int
    p10: float
    median: float
    p90: float
    weight: int  # of how many offers it is


MODELS = (
    Model("h200", 141, 2.67, 3.59, 3.60, 48),
    Model("a100pcie", 80, 1.35, 1.64, 1.65, 41),
    Model("a100sxm", 80, 1.01, 1.75, 2.40, 36),
    Model("h100sxm", 80, 1.99, 2.49, 2.71, 30),
    Model("b200", 180, 4.40, 5.69, 5.71, 14),
    Model("h100pcie", 80, 1.90, 2.35, 2.41, 14),
    Model("gh200", 96, 0.88, 1.49, 1.49, 3),
    Model("a6000", 48, 0.43, 0.89, 1.89, 57),
    Model("a100", 40, 0.75, 2.39, 3.67, 46),
    Model("v100", 16, 0.65, 1.01, 3.06, 50),
    Model("a5000", 24, 0.53, 0.59, 0.98, 40),
    Model("t4", 16, 0.53, 0.98, 2.18, 34),
    Model("a4000", 16, 0.30, 0.36, 0.81, 32),
    Model("a40", 48, 0.67, 1.54, 2.14, 22),
    Model("a10", 24, 0.60, 1.62, 4.10, 24),
    Model("p100", 16, 0.64, 1.93, 2.07, 20),
    Model("l4", 24, 0.40, 1.00, 1.00, 6),
    Model("l40s", 48, 0.60, 0.60, 0.88, 8),
    Model("rtx5090", 32, 0.47, 0.47, 0.57, 60),
    Model("rtx4090", 24, 0.35, 0.40, 0.40, 120),
    Model("rtx3090", 24, 0.17, 0.17, 0.20, 80),
    Model("rtx3080", 10, 0.09, 0.09, 0.13, 30),
    Model("rtx3060", 12, 0.08, 0.10, 0.27, 30),
)
REGIONS = {
    "US-CA": 60,
    "US-TX": 40,
    "US-VA": 40,
    "US-NY": 20,
    "US-WA": 20,
    "US": 20,
    "CA": 40,
    "TW": 30,
    "FI": 14,
    "JP": 13,
    "DE": 30,
    "FR": 20,
    "BG": 10,
    "RO": 8,
    "GB": 10,
    "AU": 9,
    "IS": 6,
    "NL": 10,
    "SE": 8,
    "VN": 6,
    "PL": 8,
    "ES": 5,
    "HU": 3,
    "TH": 3,
    "HK": 3,
    "HR": 3,
    "SI": 2,
    "CN": 2,
    "IT": 4,
    "": 20,
}
GPU_COUNTS = {1: 52, 2: 20, 4: 15, 8: 13}
EU = ("DE", "FR", "FI", "NL", "SE", "PL", "ES", "IT", "BG", "RO", "HU", "HR", "SI")


class Wish(NamedTuple):
    """The five requirements that anybody's matchmaker can read."""

    model: str  # "" for any
    memory_gib: int  # of each GPU, at least
    gpus: int  # free, at least
    regions: tuple[str, ...]  # any of; empty for anywhere
    price_max: int  # micro-USD an hour for all of it


def party(name: str) -> Address:
    """Make up an address."""
    return "0x" + sha256(name.encode()).hexdigest()[:40]


def document_id(name: str) -> Digest:
    """Make up a document's id."""
    return "0x" + sha256(name.encode()).hexdigest()


class LargeMarket:
    """Offers and orders without end; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        """Start drawing."""
        self._draw = Random(seed)

    def _of(self, weights: dict[str, int]) -> str:
        return self._draw.choices(list(weights), list(weights.values()))[0]

    def _model(self) -> Model:
        return self._draw.choices(MODELS, [model.weight for model in MODELS])[0]

    def _price(self, model: Model) -> int:
        """Draw micro-USD an hour; four in ten ask a price that many ask."""
        chance = self._draw.random()
        if chance < 0.4:
            return round(model.median * 1_000_000)
        low, high = (
            (model.p10, model.median)
            if chance < 0.7
            else (
                model.median,
                model.p90 * 1.2,
            )
        )
        return round(self._draw.uniform(low * 0.95, high) * 1_000_000)

    def offer(self, number: int) -> Offer:
        """Make one machine's offer, as it comes out of the log."""
        draw, model = self._draw, self._model()
        gpus = draw.choices(list(GPU_COUNTS), list(GPU_COUNTS.values()))[0]
        name = sha256(f"machine {number}".encode()).hexdigest()
        offer = Offer(
            machine=f"node-{name[:8]}",
            cpus_milli=gpus * draw.choice((8_000, 16_000, 24_000)),
            memory_bytes=gpus * draw.choice((32, 64, 128)) * GIB,
            disk_bytes=gpus * draw.choice((100, 500, 1_000)) * GIB,
            gpu_model=model.name,
            gpu_memory_bytes=model.memory_gib * GIB,
            gpu_uuids=tuple(
                f"GPU-{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{n:012x}"
                for n in range(gpus)
            ),
            gpu_vendor="nvidia",
            gpu_interface=draw.choice(("pcie", "sxm")),
            gpu_compute=draw.choice((70, 75, 80, 86, 89, 90)),
            gpu_driver=draw.choice((550_054_014, 570_086_010)),
            cuda=draw.choice((12_040, 12_080)),
            up_mbit_s=draw.choice((100, 500, 1_000, 10_000)),
            down_mbit_s=draw.choice((100, 500, 1_000, 10_000)),
            network=f"as{draw.randrange(1_000, 5_000)}",
            region=self._of(REGIONS),
            sandboxes=draw.choice(
                (("bubblewrap",), ("bubblewrap", "podman"), ("bubblewrap", "gvisor"))
            ),
            features=draw.choice((("image", "egress"), ("image", "egress", "erasure"))),
            cpu_price_hour=draw.randrange(4_000, 12_000, 500),
            memory_price_hour=draw.randrange(1_000, 3_000, 250),
            gpu_price_hour=self._price(model),
            cpu_score=draw.randrange(500, 1_500),
            disk_score=draw.randrange(500, 3_000),
            gpu_score=draw.randrange(900, 1_100) * model.memory_gib,
            ssh_host_key=f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{name[:43]}",
            seal_key=f"x25519:{name}",
            endpoint=draw.choice(("", f"198.51.100.{number % 250}:{number % 60_000}")),
            leases_max=0,
            refuses=(),
            expires_at_s=NOW_S + draw.randrange(3_600, 7 * 86_400),
            signed_at_s=NOW_S,
            salt=draw.getrandbits(60),
        )
        return msgspec.json.decode(msgspec.json.encode(offer), type=Offer)

    def fill(self, book: Book, count: int) -> None:
        """Put so many offers into the book; three machines to an owner."""
        for number in range(1, count + 1):
            owner = party(f"provider {number % (count // 3 + 1)}")
            record = OfferRecord(
                id=document_id(f"offer {number}"),
                number=number,
                provider=owner,
                offer=self.offer(number),
            )
            book.offers.put(record, is_up=number % 20 != 0, now_s=NOW_S)

    def wishes(self, count: int) -> Iterator[Wish]:
        """Draw what orders ask for."""
        draw = self._draw
        for _ in range(count):
            model, gpus = self._model(), draw.choice((1, 1, 1, 2, 4))
            is_any = draw.random() < 0.25
            cap = draw.uniform(model.median, model.p90 * 1.5) + 0.3
            yield Wish(
                model="" if is_any else model.name,
                memory_gib=draw.choice((0, 16, 24, model.memory_gib))
                if model.memory_gib >= 24
                else 0,
                gpus=gpus,
                regions=draw.choice(
                    ((), (), ("US",), ("DE",), EU, ("US-CA", "CA"), ("JP", "TW"))
                ),
                price_max=round(cap * gpus * 1_000_000),
            )


def order_of(wish: Wish, number: int) -> Order:
    """Make the order that asks for it, with four CPUs and 16 GiB to a GPU."""
    return Order(
        tenant=party(f"tenant {number % 1_000}"),
        cpus_milli=4_000 * wish.gpus,
        memory_bytes=16 * GIB * wish.gpus,
        disk_bytes=20 * GIB,
        gpu_models=(wish.model,) if wish.model else (),
        gpu_count=wish.gpus,
        gpu_memory_bytes=wish.memory_gib * GIB,
        regions=wish.regions,
        sandbox="bubblewrap",
        features=(),
        avoid=(),
        price_hour_max=wish.price_max,
        total_max=1 << 50,
        duration_s_max=3_600,
        manifest=NO_DIGEST,
        ssh_key="ssh-ed25519 AAAA",
        delegation=NO_DIGEST,
        signed_at_s=NOW_S,
        salt=number,
    )

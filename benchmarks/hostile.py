"""Honest tenants beside an attacker: do they still get their leases, and how late?

A real node process on SQLite holds the offers of 1,000 providers. Honest tenants order
at a steady rate over HTTP, open loop; latency counts from the moment at which an order
was due to leave. Beside them, from a process of its own and at a rate of its own, an
attacker sends one kind of hostile documents, signed beforehand. The node's limit of
requests per address is off, since all come from one here: what stands between the two
are the rules of the book and the order in which a node does its work.

``RATE=50 ATTACK=200 SECONDS=10`` are orders a second, attacks a second, and the
length of each round. Ends with the worst round: share of honest orders that got their
lease, and their 99th percentile in ms, beside those of the round without an attacker.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.lease_latency import SETTINGS as NO_RATE_LIMIT
from benchmarks.lease_latency import TENANTS, found, node_process
from benchmarks.rig.frame import PYTHON, ROOT, close, percentile, run, scratch, show
from benchmarks.rig.traffic import Traffic, key_of
from sublet.base.ids import NO_DIGEST
from sublet.core.document import AnyDocument, Attestation, Bid
from sublet.wire.codec import encode, sign
from sublet.wire.message import Submission
from sublet.wire.signature import Key

RATE = 50
ATTACK = 200
SECONDS = 10
FLAPPING, HELD_UP, BIDDER = 0, 1, 2  # providers that attack

Attack = Callable[[Traffic, int], str]  # number of the attack: the request's body


def body_of(traffic: Traffic, key: Key, document: AnyDocument) -> str:
    """Sign a document and wrap it."""
    signed = sign(document, key=key, domain=traffic.domain)
    return encode(Submission(documents=(signed,))).decode()


def honest(traffic: Traffic, number: int) -> str:
    """An order of one of the honest tenants: all but the last."""
    tenant = traffic.tenants[number % (TENANTS - 1)]
    return body_of(traffic, tenant, traffic.order(tenant))


# ---- the attacks --------------------------------------------------------------------


def tiny(traffic: Traffic, number: int) -> str:
    """Orders of one key, for one second each."""
    tenant = traffic.tenants[-1]
    order = replace(traffic.order(tenant), duration_s_max=1, total_max=10)
    return body_of(traffic, tenant, order)


def unmatched(traffic: Traffic, number: int) -> str:
    """Orders of keys that nobody knows, for which every offer is looked at."""
    tenant = key_of(f"stranger {number}")
    order = replace(traffic.order(tenant), price_hour_max=1, regions=("FR",))
    return body_of(traffic, tenant, order)


def waiting(traffic: Traffic, number: int) -> str:
    """Orders of many keys that wait, and that set nothing aside."""
    tenant = key_of(f"stranger {number % 200}")
    order = replace(
        traffic.order(tenant),
        mode="standing",
        open_until_s=traffic.now_s + 86_400,
        price_hour_max=0,
        total_max=0,
    )
    return body_of(traffic, tenant, order)


def flapping(traffic: Traffic, number: int) -> str:
    """One machine, offered for another price each time."""
    offer = replace(traffic.offer(FLAPPING), cpu_price_hour=20_000 + number % 2)
    return body_of(traffic, traffic.providers[FLAPPING], offer)


def reordered(traffic: Traffic, number: int) -> str:
    """Offers that were held up, and come after newer ones."""
    offer = replace(traffic.offer(HELD_UP), signed_at_s=traffic.now_s - 600)
    return body_of(traffic, traffic.providers[HELD_UP], offer)


def replayed(traffic: Traffic, number: int) -> str:
    """One order, again and again."""
    tenant = traffic.tenants[-1]
    return body_of(traffic, tenant, replace(traffic.order(tenant), salt=1))


def impersonating(traffic: Traffic, number: int) -> str:
    """Bids with a machine of somebody else, for an order that there is not."""
    bid = Bid(NO_DIGEST, NO_DIGEST, number, traffic.now_s, traffic.salt())
    return body_of(traffic, traffic.providers[BIDDER], bid)


def unmet(traffic: Traffic, number: int) -> str:
    """Offers of keys that no node has met."""
    provider = key_of(f"nobody {number}")
    return body_of(traffic, provider, traffic.offer(number))


def look_alike(traffic: Traffic, number: int) -> str:
    """Offers with an attribute in letters of another alphabet."""
    offer = replace(traffic.offer(BIDDER), attributes=("tier=d\u0430tacenter",))
    return body_of(traffic, traffic.providers[BIDDER], offer)


def absurd(traffic: Traffic, number: int) -> str:
    """Orders for more memory than there is in the world, until the year 10^6."""
    body = honest(traffic, number)
    for what, much in (("memory_bytes", 1 << 63), ("deadline_s", 10**13)):
        before, _, after = body.partition(f'"{what}":')
        body = f'{before}"{what}":{much},{after.partition(",")[2]}'
    return body


def vouching(traffic: Traffic, number: int) -> str:
    """Attestations in bulk, of one key."""
    said = Attestation(
        provider=traffic.providers[number % len(traffic.providers)].address,
        machine=f"machine-{number}",
        attributes=(f"tier=t{number}",),
        expires_at_s=traffic.now_s + 86_400,
        signed_at_s=traffic.now_s,
        salt=traffic.salt(),
    )
    return body_of(traffic, key_of("auditor"), said)


ATTACKS: tuple[Attack, ...] = (
    tiny,
    unmatched,
    waiting,
    flapping,
    reordered,
    replayed,
    impersonating,
    unmet,
    look_alike,
    absurd,
    vouching,
)


# ---- the rounds ---------------------------------------------------------------------


def load(host: str, port: int, plan: Path) -> list[str | Path]:
    """Name the program that sends a plan."""
    return [sys.executable, "-m", "benchmarks.rig.load", host, str(port), plan]


def fight(
    folder: Path, address: tuple[str, int], *, bodies: list[str], attacks: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let honest tenants order, and the attacker beside them; give both figures."""
    plans = []
    for name, said in (("honest", bodies), ("attack", attacks)):
        rate = max(1, len(said) // seconds_of())
        plans.append(folder / f"{name}.json")
        stages = [{"rate": rate, "bodies": said}] if said else []
        plans[-1].write_text(json.dumps(stages))
    command = load(*address, plans[1])
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as attacker:
        answer = run(*load(*address, plans[0]), cwd=ROOT)
        heard, _ = attacker.communicate()
    [figures] = json.loads(answer)
    return figures, (json.loads(heard) or [{}])[0]


def make_attacks(traffic: Traffic, attack: Attack | None, count: int) -> list[str]:
    """Sign so many, or none."""
    return [] if attack is None else [attack(traffic, n) for n in range(count)]


def seconds_of() -> int:
    """Say how long a round is."""
    return int(os.environ.get("SECONDS", SECONDS))


def main() -> None:
    """Fight each attack, show, and name the worst round."""
    count = int(os.environ.get("RATE", RATE)) * seconds_of()
    attack_count = int(os.environ.get("ATTACK", ATTACK)) * seconds_of()
    rows, shares, late_ms = [], [], []
    with scratch() as folder_name:
        folder, home = Path(folder_name), Path(folder_name) / "node"
        run(PYTHON.with_name("sublet"), "node", "init", "--home", home)
        (home / "config.toml").write_text(NO_RATE_LIMIT)
        traffic = asyncio.run(found(home))
        with node_process(home) as address:
            for attack in (None, *ATTACKS):
                bodies = [honest(traffic, n) for n in range(count)]
                attacks = (
                    [attack(traffic, n) for n in range(attack_count * bool(attack))]
                    if attack
                    else []
                )
                figures, theirs = fight(folder, address, bodies=bodies, attacks=attacks)
                share = 1 - figures["bad"] / count
                p99 = percentile(figures["latencies_ms"], 0.99)
                shares.append(share)
                late_ms.append(p99)
                rows.append(
                    (
                        attack.__name__ if attack else "nobody",
                        f"{100 * share:.1f} %",
                        f"{percentile(figures['latencies_ms'], 0.5):.1f}",
                        f"{p99:.1f}",
                        answers(theirs),
                    )
                )
    show(
        f"Honest orders beside an attacker who says {attack_count} things",
        ["attacker", "honest with lease", "p50 ms", "p99 ms", "the attacker is told"],
        rows,
    )
    close(
        "hostile",
        served_alone=round(shares[0], 4),
        p99_ms_alone=round(late_ms[0], 1),
        served_min=round(min(shares[1:]), 4),
        p99_ms_max=round(max(late_ms[1:]), 1),
    )


def answers(theirs: dict[str, Any]) -> str:
    """Say what the attacker was told, the most frequent first."""
    told = sorted(theirs.get("codes", {}).items(), key=lambda one: -one[1])
    return ", ".join(f"{code} {count}" for code, count in told[:3])


if __name__ == "__main__":
    main()

"""Vouchers checked a second, on one core: what bounds the leases that a till can serve.

*verify*: what is done with each voucher that comes: the EIP-712 digest, the strict
signature (65 bytes, v 27 or 28, low s, nobody's zero address), the signer found and
compared with who signs for the channel. *till*: the same with what stands around it:
the limits of each field and the channel's own id. *library*: libsecp256k1's recovery by
itself, which is the floor. *eth-account*: `recover_message` over
`encode_typed_data` of the same vouchers, with coincurve as its backend, where it is
installed (it comes with the group ``contracts``). In turns, in one process; signed in
advance by ten tenants.

Not in it: the drawer's file, one atomic write for each voucher that is higher.

``VOUCHERS=1000 ROUNDS=1`` runs less.
"""

import os
import time
from collections.abc import Callable, Sequence

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from msgspec import Struct

from benchmarks.rig.frame import close, median, show
from benchmarks.rig.traffic import Traffic
from sublet.base.ids import Address
from sublet.core.document import Channel, Market, Voucher
from sublet.wire.channel import channel_of
from sublet.wire.codec import sign, verify
from sublet.wire.message import Signed
from sublet.wire.signature import recover
from sublet.wire.typed_data import Domain, digest

VOUCHERS = 20_000
ROUNDS = 5
FOREIGN_SHARE = 20  # one in so many for eth-account, which is slower


class Case(Struct, frozen=True):
    """A voucher that came, and who should have signed it."""

    signed: Signed
    signature: bytes
    channel: Channel
    signer: Address


def make_cases(traffic: Traffic, count: int) -> list[Case]:
    """Sign so many vouchers, each higher than the last of its channel."""
    made = []
    provider = traffic.providers[0].address
    for number in range(count):
        tenant = traffic.tenants[number % len(traffic.tenants)]
        channel = channel_of(
            traffic.market,
            traffic.domain.market,
            tenant=tenant.address,
            provider=provider,
        )
        voucher = Voucher(digest(channel, traffic.domain), 1_000 + number)
        signed = sign(voucher, key=tenant, domain=traffic.domain)
        signature = bytes.fromhex(signed.signature[2:])
        made.append(Case(signed, signature, channel, tenant.address))
    return made


def verify_all(cases: Sequence[Case], domain: Domain) -> None:
    """Digest, recover, compare."""
    for case in cases:
        if recover(digest(case.signed.document, domain), case.signature) != case.signer:
            raise SystemExit("a voucher of the benchmark's own does not hold")


def take_all(cases: Sequence[Case], domain: Domain, market: Market) -> None:
    """Do as the till does, but for its file."""
    for case in cases:
        voucher = case.signed.document
        channel = channel_of(
            market, domain.market, tenant=case.signer, provider=case.channel.receiver
        )
        if not isinstance(voucher, Voucher) or voucher.channel_id != digest(
            channel, domain
        ):
            raise SystemExit("a voucher of the benchmark's own is of another channel")
        if verify(case.signed, domain=domain)[1] != case.signer:
            raise SystemExit("a voucher of the benchmark's own does not hold")


def recover_all(cases: Sequence[Case], digests: Sequence[bytes]) -> None:
    """Let the library find each signer, and nothing else."""
    parsed = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    public = ffi.new("secp256k1_pubkey *")
    for case, raw in zip(cases, digests, strict=True):
        odd = case.signature[-1] - 27
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
            GLOBAL_CONTEXT.ctx, parsed, case.signature, odd
        )
        lib.secp256k1_ecdsa_recover(GLOBAL_CONTEXT.ctx, public, parsed, raw)


def make_foreign(domain: Domain) -> Callable[[Sequence[Case]], None] | None:
    """Have eth-account do it, where it is installed."""
    try:
        from eth_account import Account
        from eth_account.messages import encode_typed_data
    except ImportError:
        return None
    about = {
        "name": "x402 Batch Settlement",
        "version": "1",
        "chainId": domain.chain_id,
        "verifyingContract": domain.contract,
    }
    types = {
        "Voucher": [
            {"name": "channelId", "type": "bytes32"},
            {"name": "maxClaimableAmount", "type": "uint128"},
        ]
    }

    def check(cases: Sequence[Case]) -> None:
        for case in cases:
            voucher = case.signed.document
            assert isinstance(voucher, Voucher)
            said = {
                "channelId": bytes.fromhex(voucher.channel_id[2:]),
                "maxClaimableAmount": voucher.max_claimable_amount,
            }
            message = encode_typed_data(about, types, said)
            found = Account.recover_message(message, signature=case.signature)
            if found.lower() != case.signer:
                raise SystemExit("eth-account finds another signer")

    return check


def rate_of(work: Callable[[Sequence[Case]], None], cases: Sequence[Case]) -> float:
    """Run it; give how many a second of the processor's time."""
    start = time.process_time()
    work(cases)
    return len(cases) / (time.process_time() - start)


def main() -> None:
    """Sign, then verify in turns, and show."""
    count = int(os.environ.get("VOUCHERS", VOUCHERS))
    rounds = int(os.environ.get("ROUNDS", ROUNDS))
    traffic = Traffic(providers=1, tenants=10)
    cases, domain = make_cases(traffic, count), traffic.domain
    foreign = make_foreign(domain)
    digests = [
        bytes.fromhex(digest(case.signed.document, domain)[2:]) for case in cases
    ]
    names = ("verify", "till", "library", "eth-account")
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        rates["verify"].append(rate_of(lambda x: verify_all(x, domain), cases))
        till = rate_of(lambda x: take_all(x, domain, traffic.market), cases)
        rates["till"].append(till)
        rates["library"].append(rate_of(lambda x: recover_all(x, digests), cases))
        if foreign is not None:
            rates["eth-account"].append(rate_of(foreign, cases[::FOREIGN_SHARE]))
    figures = {name: median(each) for name, each in rates.items() if each}
    show(
        f"{count:,} vouchers of 10 channels, {rounds} rounds, one core",
        ["", "a second", "µs each"],
        [
            (name, f"{rate:,.0f}", f"{1_000_000 / rate:.1f}")
            for name, rate in figures.items()
        ],
    )
    close(
        "vouchers",
        verify_per_s=round(figures["verify"]),
        till_per_s=round(figures["till"]),
        library_per_s=round(figures["library"]),
        eth_account_per_s=round(figures.get("eth-account", 0)),
    )


if __name__ == "__main__":
    main()

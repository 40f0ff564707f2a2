"""What each document of a lease says, and how a lease ended, in a sentence for people.

Pure. Not here: who said it, when, and what it changed (``service.story``, ``retold``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from sublet.base.units import format_duration, format_money, format_size
from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Delivery,
    Erasure,
    GiveBack,
    LeaseTerms,
    Mirror,
    Order,
    ProviderLost,
    Receipt,
    Replacement,
    Resume,
    Revocation,
    Start,
    Stop,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease


def tell(document: AnyDocument, lease: Lease | None) -> str:
    """Say what a document says, of a lease as it is afterwards."""
    said = _TEXTS.get(type(document))
    if said is None:
        return f"{type(document).__name__} was heard"
    return said(document, lease)


def _seconds(ran_ms: int) -> str:
    return f"{ran_ms / 1_000:.1f} s"


def _tell_order(order: Order, lease: Lease | None) -> str:
    models = " or ".join(order.gpu_models)
    gpus = f", {order.gpu_count} GPU {models}".rstrip() if order.gpu_count else ""
    wish = (
        f"an order for {order.cpus_milli / 1_000:g} CPU, "
        f"{format_size(order.memory_bytes)} memory{gpus}, "
        f"at most {format_money(order.price_hour_max)} an hour"
    )
    if lease is None:
        return wish
    return (
        f"{wish}; matched with {lease.machine} of {lease.provider} at "
        f"{format_money(lease.price_hour)} an hour for at most "
        f"{format_duration(lease.duration_s)}; {format_money(lease.hold)} held"
    )


def _tell_record(record: UsageRecord, lease: Lease | None) -> str:
    owed = f", {format_money(lease.owed)} owed" if lease is not None else ""
    return f"the meter reads {_seconds(record.ran_ms)}{owed}"


def _tell_receipt(receipt: Receipt, lease: Lease | None) -> str:
    owed = f", {format_money(lease.owed)} owed" if lease is not None else ""
    return (
        f"the receipt: {receipt.reason}, exit code {receipt.exit_code}, "
        f"ran {_seconds(receipt.ran_ms)}{owed}"
    )


def _tell_mirror(mirror: Mirror, lease: Lease | None) -> str:
    asked = (
        f", {format_money(mirror.withdrawing)} of it asked back by the tenant"
        if mirror.withdrawing
        else ""
    )
    return (
        f"the chain, at block {mirror.block}: {format_money(mirror.balance)} in the "
        f"channel, {format_money(mirror.claimed)} claimed of it{asked}"
    )


def tell_end(lease: Lease) -> str:
    fault = (
        "nobody's fault"
        if lease.fault == "nobody"
        else f"the {lease.fault.value}'s fault"
    )
    return (
        f"settled ({lease.reason or 'done'}, {fault}): {format_money(lease.paid)} paid of "
        f"{format_money(lease.owed)} owed, {format_money(lease.hold - lease.paid)} of "
        "the hold back to the tenant"
    )


_TEXTS: Mapping[type[AnyDocument], Callable[[Any, Lease | None], str]] = {
    Order: _tell_order,
    LeaseTerms: lambda terms, _: "the provider signed the terms of the match",
    Delivery: lambda delivery, _: "the provider holds the manifest that was ordered",
    Replacement: lambda asked, _: "the tenant wants another program on this lease",
    Start: lambda start, _: "the program started; from here on seconds are billed",
    UsageRecord: _tell_record,
    CheckpointKept: lambda kept, _: (
        f"the tenant keeps a checkpoint of {_seconds(kept.ran_ms)}"
    ),
    GiveBack: lambda notice, _: (
        f"the owner wants the machine back within {format_duration(notice.notice_s)}"
    ),
    Receipt: _tell_receipt,
    Erasure: lambda erasure, _: (
        f"the provider has erased everything, by its own word at level {erasure.level}; "
        "its slice of the machine is free again"
    ),
    Stop: lambda stop, _: f"the tenant ended it: {stop.reason}",
    Channel: lambda channel, _: "tenant and provider have a payment channel",
    Mirror: _tell_mirror,
    Voucher: lambda voucher, _: (
        "the tenant vouched for "
        f"{format_money(voucher.max_claimable_amount)} to this provider in all"
    ),
    Revocation: lambda revoked, _: "the tenant took its delegation back",
    ProviderLost: lambda lost, _: "no node hears the provider any more",
    Resume: lambda resume, _: "the market is back; deadlines moved by its absence",
}

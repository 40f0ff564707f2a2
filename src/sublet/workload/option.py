"""The options of the Python API: the names and texts of the command line, as types.

What they mean is in ``run.need``, ``run.particular`` and ``run.term``.
"""

from collections.abc import Sequence
from typing import TypedDict

from sublet.wire.message import Volume
from sublet.workload.run.wish import Source


class Needed(TypedDict, total=False):
    """What a job may ask of a machine; texts as on the command line."""

    gpu: str | None  # "h200:1", "2", "h100,a100/80GiB/sxm:8" for any of several
    gpu_kinds: Sequence[str]  # any of, as an order has them: "a100/80GiB/sxm"
    vram: str | None  # "24GB", of each GPU, at least
    gpu_vendor: str | None  # "nvidia", "amd"
    gpu_interface: str | None  # "pcie", "sxm"
    compute_capability: str | None  # "9.0", at least
    driver: str | None  # "550.54", at least
    cuda: str | None  # "12.4", at least
    gpu_share: str | None  # "0.5", "1/7", "any": so much of a GPU each will do
    gpu_sharing: str | None  # "mig", "time-slice": parted in this way alone
    cpus: str | None  # "2", "0.5"
    memory: str | None
    disk: str | None
    disk_classes: Sequence[str]  # any of "hdd", "ssd", "nvme"
    up: str | None  # "100Mbit", at least; to the internet
    down: str | None
    latencies: Sequence[str]  # all of: "frankfurt=30ms"
    max_price: str | None  # US dollars an hour
    max_total: str | None  # US dollars
    pricing: str | None  # "second_score", "pay_as_bid"
    deadline: str | None  # all is over by then: "6h", "2030-01-31T18:00Z"
    regions: Sequence[str]  # any of
    jurisdictions: Sequence[str]  # any of
    attributes: Sequence[str]  # all of: "tier=datacenter"
    auditors: Sequence[str]  # addresses: one of them vouches for each attribute
    auditors_all: Sequence[str]  # each of these does
    avoid: Sequence[str]  # addresses of providers
    work: str | None  # "cpu", "disk", "gpu": whose measured speed counts
    near: str | None  # "frankfurt=0.001": dollars an hour that each ms weighs
    data_at: Sequence[str]  # providers that hold the data
    data_price: str | None  # dollars an hour that bringing it elsewhere weighs
    sandbox: str | None  # the class: "bubblewrap", "podman", "gvisor"; None for any
    image: str | None  # "python:3.12", "oci-archive:FILE"
    timeout: str | None


class Quoted(Needed, total=False):
    """What a quote or a job may ask for besides: several machines at once."""

    machines: int | None  # a gang of so many
    apart: Sequence[str]  # of these no two share one: "provider", "region", "network"
    together: str | None  # "5ms" between any two of them


class Options(Quoted, total=False):
    """What a job may be given besides."""

    is_command: bool
    lengthens: bool  # the command follows the image's entrypoint
    inputs: Sequence[str]
    outputs: Sequence[str]
    checkpoint: str | None
    volumes: Sequence[Volume]  # of an image; persistent ones are the checkpoint
    retries: int | None
    wait: str | None
    mode: str | None  # "standing:10m", "live:10s", "spot:60s", "reserved:2h"
    env: Sequence[str]  # "K=V", or "K": taken from ``environment``
    secrets: Sequence[str]  # "K": taken from ``environment``; "K=@FILE"
    erasure: bool  # encrypted scratch, and a signed statement that it is gone
    egress: Sequence[str]  # "huggingface.co:443"; nothing is reached without
    name: str | None


class MapOptions(Needed, total=False):
    """What a map may be given besides; ``timeout`` is that of one attempt at a task."""

    is_command: bool
    inputs: Sequence[str]
    sources: Sequence[Source]  # local files that go along, each under a name of its own
    env: Sequence[str]
    secrets: Sequence[str]
    wait: str | None
    name: str | None
    parallel: int | None
    volume: str | None  # "100h": with ``mode`` standing, of all machines, in one order
    retries: int | None
    lease: str | None  # longest lease of one worker
    mode: str | None  # how each worker finds a machine; as in ``Options``
    is_open: bool  # tasks may be added while it runs, until ``close_tasks``
    is_warm: bool  # the program is started once for all tasks of a machine
    stall: str | None  # that an attempt may make no progress
    fastest_ms: int  # whoever does a task in less lies
    is_fail_fast: bool
    retry_failed: bool

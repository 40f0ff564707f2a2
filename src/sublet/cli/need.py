"""What a job needs of a machine, as options that several verbs share.

Each stands here once, by its keyword of ``AsyncClient``: ``with_needs`` gives all of
them to a verb. What they mean, and every refusal, is in ``workload.run``.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from sublet.cli.option import MaxTotalOption


def _one(flag: str, metavar: str, text: str) -> Any:
    return Annotated[str | None, typer.Option(flag, metavar=metavar, help=text)]


def _several(flag: str, metavar: str, text: str) -> Any:
    return Annotated[list[str] | None, typer.Option(flag, metavar=metavar, help=text)]


OPTIONS: Mapping[str, Any] = {
    "gpu": _one(
        "--gpu",
        "KIND:N",
        "GPUs, such as h200:1, 2 for any, a100/80GiB/sxm:8, or h100,h200:2 for any of "
        "several.",
    ),
    "vram": _one("--vram", "SIZE", "Memory of each GPU at least, such as 24GB."),
    "gpu_vendor": _one("--gpu-vendor", "NAME", "nvidia or amd."),
    "gpu_interface": _one("--gpu-interface", "NAME", "pcie or sxm."),
    "compute_capability": _one("--compute-capability", "X.Y", "At least, such as 9.0."),
    "driver": _one("--driver", "VERSION", "Of the GPUs, at least, such as 550.54."),
    "cuda": _one("--cuda", "X.Y", "That the driver serves, at least, such as 12.4."),
    "gpu_share": _one(
        "--gpu-share",
        "PART",
        "A part of each GPU will do: 0.5 or 1/7 at least, or any.  [default: 1]",
    ),
    "gpu_sharing": _one(
        "--gpu-sharing",
        "WAY",
        "Parts of GPUs made in this way alone: mig, or time-slice.  [default: any]",
    ),
    "cpus": _one("--cpus", "N", "CPUs, such as 4 or 0.5.  [default: 1]"),
    "memory": _one(
        "--memory",
        "SIZE",
        "Memory: 8GB is 8 x 10^9 bytes, 8GiB or 8Gi is 8 x 2^30.  [default: 1GiB]",
    ),
    "disk": _one("--disk", "SIZE", "Disk.  [default: 2GiB]"),
    "disk_classes": _several(
        "--disk-class", "CLASS", "hdd, ssd or nvme; any of several."
    ),
    "up": _one("--up", "RATE", "To the internet, at least, such as 100Mbit."),
    "down": _one("--down", "RATE", "From the internet, at least, such as 1Gbit."),
    "latencies": _several(
        "--latency", "PLACE=MS", "At most, such as frankfurt=30ms; each of several."
    ),
    "max_price": _one(
        "--max-price",
        "USD",
        "Highest price an hour.  [default: --max-total lasts for --timeout]",
    ),
    "max_total": MaxTotalOption,
    "pricing": _one(
        "--pricing",
        "WAY",
        "What is paid: second_score, what the next best would have cost, or "
        "pay_as_bid, what the owner asks.  [default: second_score]",
    ),
    "deadline": _one(
        "--deadline", "TIME", "All is over by then: 6h, or 2030-01-31T18:00Z."
    ),
    "regions": _several("--region", "CODE", "DE or US-CA; any of several."),
    "jurisdictions": _several(
        "--jurisdiction", "CODE", "Whose law binds the owner; any of several."
    ),
    "attributes": _several(
        "--attribute", "KEY=VALUE", "Such as tier=datacenter; each of several."
    ),
    "auditors": _several(
        "--auditor",
        "ADDRESS",
        "Who has to vouch for the attributes, or for anything without any; any of "
        "several. Without, the owner's word is enough.",
    ),
    "auditors_all": _several(
        "--auditor-all", "ADDRESS", "Who, too, has to; each of several."
    ),
    "avoid": _several(
        "--avoid", "ADDRESS", "A provider that is not wanted; besides config.toml."
    ),
    "work": _one(
        "--work",
        "KIND",
        "Whose measured speed counts beside the price: cpu, disk or gpu.",
    ),
    "near": _one(
        "--near",
        "PLACE=USD",
        "Each millisecond to there weighs like so much an hour: frankfurt=0.001.",
    ),
    "data_at": _several(
        "--data-at", "ADDRESS", "A provider that has the data; with --data-price."
    ),
    "data_price": _one(
        "--data-price", "USD", "What bringing it elsewhere weighs, an hour."
    ),
    "sandbox": _one(
        "--sandbox",
        "CLASS",
        "Only in this one: bubblewrap, podman, or gvisor, a kernel of its own.",
    ),
}


def with_needs(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb all options of ``OPTIONS``; it gets what was given as ``needed``."""

    @wraps(verb)
    def take(*args: Any, **named: Any) -> None:
        needed = {name: named.pop(name) for name in OPTIONS}
        given = {name: value for name, value in needed.items() if value is not None}
        verb(*args, needed=given, **named)

    parameters = []
    for one in inspect.signature(verb).parameters.values():
        if one.name != "needed":
            parameters.append(one)
            continue
        parameters += [
            one.replace(name=name, default=None, annotation=option)
            for name, option in OPTIONS.items()
        ]
    take.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    take.__annotations__ = {one.name: one.annotation for one in parameters}
    return take

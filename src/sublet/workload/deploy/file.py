"""Reads a deployment file of whichever kind, told by its keys, or its name. Pure."""

from decimal import Decimal
from pathlib import PurePath
from typing import Any

from msgspec import Struct

from sublet.workload.deploy.compose import read_compose
from sublet.workload.deploy.fault import Findings
from sublet.workload.deploy.own import read_own
from sublet.workload.deploy.plan import DeployPlan
from sublet.workload.deploy.sdl import read_stack
from sublet.workload.deploy.sdl_manifest import compute_version, make_groups
from sublet.workload.deploy.sdl_plan import plan_sdl
from sublet.workload.deploy.tree import read_tree


class Read(Struct, frozen=True):
    """What a file comes to."""

    kind: str  # "sdl", "compose" or "sublet"
    plan: DeployPlan
    akash: dict[str, Any] | None = None  # manifest, groups and version, of SDL alone


def read_file(
    raw: bytes,
    *,
    file: str,
    name: str,
    akt_usd: Decimal | None = None,
    is_any_provider: bool = False,
) -> Read:
    """Read SDL, Compose or ``sublet.yaml``.

    Args:
        raw: the file.
        file: its name, for people.
        name: of the deployment, where the file names none.
        akt_usd: what one AKT is worth in US dollars, where an SDL file pays in it.
        is_any_provider: pass over where and by whom an SDL file wants to be placed.

    Raises:
        Faults: everything that is wrong, each with line, key and cure.
        Refused: a circle of services, or too many copies.
    """
    found = Findings(file)
    tree = read_tree(raw, found)
    if tree is None:
        found.check()
        raise AssertionError("what cannot be read has a fault")
    found.check()
    if "sublet" in tree.entries or PurePath(file).stem == "sublet":
        return Read("sublet", read_own(tree, found, name=name))
    if tree.entries.keys() & {"profiles", "deployment", "include", "endpoints"}:
        stack = read_stack(tree, found)
        manifest, groups = make_groups(stack)
        akash = {
            "manifest": manifest,
            "groups": groups,
            "version": compute_version(manifest),
        }
        plan = plan_sdl(
            stack, name=name, akt_usd=akt_usd, is_any_provider=is_any_provider
        )
        return Read("sdl", plan, akash)
    return Read("compose", read_compose(tree, found, name=name))

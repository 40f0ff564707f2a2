"""What is signed and what is sent for one attempt: the order and the manifest. Pure."""

from msgspec import structs

from sublet.base import limits
from sublet.base.ids import NO_DIGEST, Address
from sublet.core.book.mode import LIVE, RESERVED, SPOT, STANDING
from sublet.core.document import Order
from sublet.core.egress import FEATURE as EGRESS
from sublet.core.lease.table import ERASURE
from sublet.wire.manifest import check_manifest, commitment
from sublet.wire.message import PROTOCOL_VERSION, Manifest, Tree
from sublet.workload.run.plan import Program
from sublet.workload.run.wish import Needs, Terms


def make_manifest(
    program: Program, terms: Terms, *, inputs: Tree, resume: Tree, salt: str
) -> Manifest:
    """Say what the provider is to run.

    Raises:
        Faults: more than a manifest holds.
    """
    needs = terms.needs
    manifest = Manifest(
        v=PROTOCOL_VERSION,
        salt=salt,
        kind=program.kind,
        argv=program.argv,
        env=terms.env,
        secrets=terms.secrets,
        inputs=inputs,
        outputs=tuple(wanted.remote for wanted in terms.outputs),
        checkpoint=terms.checkpoint,
        volumes=terms.volumes,
        resume=resume,
        cpus_milli=needs.cpus_milli,
        memory_bytes=needs.memory_bytes,
        disk_bytes=needs.disk_bytes,
        timeout_s=needs.timeout_s,
        egress=needs.egress,
        image=program.image,
        lengthens=program.lengthens,
    )
    check_manifest(manifest)
    return manifest


def make_order(
    needs: Needs,
    *,
    tenant: Address,
    manifest: Manifest | None,
    ssh_key: str,
    avoid: tuple[Address, ...],
    spent: int,
    at_s: int,
    salt: int,
) -> Order:
    """Say what is wanted of a machine; without a manifest, to ask for a quote."""
    return Order(
        **structs.asdict(
            structs.replace(
                needs.particulars, avoid=join_avoided(needs.particulars.avoid, avoid)
            )
        ),
        tenant=tenant,
        cpus_milli=needs.cpus_milli,
        memory_bytes=needs.memory_bytes,
        disk_bytes=needs.disk_bytes,
        gpu_models=needs.gpu_models,
        gpu_count=needs.gpu_count,
        gpu_memory_bytes=needs.gpu_memory_bytes,
        regions=needs.regions,
        sandbox=needs.sandbox,
        features=_find_features(needs),
        machines=needs.gang.machines,
        apart=needs.gang.apart,
        together_ms=needs.gang.together_ms,
        price_hour_max=needs.price_hour_max,
        total_max=max(needs.total_max - spent, 0),
        duration_s_max=needs.timeout_s,
        mode=needs.mode,
        window_s=needs.mode_s if needs.mode == LIVE else 0,
        choose_s=needs.choose_s,
        volume_s=needs.volume_s,
        open_until_s=at_s + needs.mode_s if needs.mode == STANDING else 0,
        notice_s=needs.mode_s if needs.mode == SPOT else 0,
        starts_at_s=at_s + needs.mode_s if needs.mode == RESERVED else 0,
        manifest=NO_DIGEST if manifest is None else commitment(manifest),
        ssh_key=ssh_key,
        delegation=NO_DIGEST,
        signed_at_s=at_s,
        salt=salt,
    )


def join_avoided(
    named: tuple[Address, ...], fared: tuple[Address, ...]
) -> tuple[Address, ...]:
    """Give whom an order avoids: whom the tenant names, then whom its job fared badly with.

    Of the latter the newest, as many as an order names besides.
    """
    others = tuple(one for one in fared if one not in named)
    room = limits.LIST_LENGTH_MAX - len(named)
    return (*named, *others[max(0, len(others) - room) :])


def _find_features(needs: Needs) -> tuple[str, ...]:
    """Name what the provider's offer has to promise."""
    wanted = {EGRESS: bool(needs.egress), ERASURE: needs.erasure}
    if needs.image is not None:
        wanted[needs.image.feature] = True
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)

"""What may take the place of a program that runs, and what not. Pure.

Image, command and variables may change. What was leased, and what the lease's own
machinery goes by (outputs, checkpoint, destinations), stays as it was delivered.

Not here: how one program follows the other (``replacing``).
"""

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused
from sublet.core.document import Delivery, Replacement
from sublet.core.image import ARCHIVES, parse_reference
from sublet.provider.desk import Desk
from sublet.provider.image_program import check_image
from sublet.provider.lease_state import Stage
from sublet.provider.preparation import check_leased
from sublet.wire import codec
from sublet.wire.manifest import check_manifest, commitment
from sublet.wire.message import Manifest, Replace, Signed

FIXED = (
    "kind",
    "outputs",
    "checkpoint",
    "volumes",
    "cpus_milli",
    "memory_bytes",
    "disk_bytes",
    "timeout_s",
    "egress",
)
"""Members of a manifest that a replacement leaves as they are."""


def check_replacement(said: Replace, desk: Desk) -> None:
    """Check a program that is to take the place of the one that runs.

    Raises:
        Refused: why not, or not now; the one that runs goes on.
        Faults: the manifest itself is wrong; all faults are listed.
        PeerFault: it is not the word of this lease's tenant.
        Unavailable: this machine cannot run images any more.
    """
    lease, around = desk.record.lease, desk.around
    try:
        _, signer = codec.verify(said.replacement, domain=around.domain)
    except Refused as fault:
        raise PeerFault(fault.message, code=fault.code) from fault
    document = said.replacement.document
    if not isinstance(document, Replacement) or document.lease_id != lease.id:
        raise PeerFault("this is no replacement of this lease's", code="wrong_document")
    if signer not in (lease.authorizer, lease.tenant):
        raise PeerFault("this is not this lease's tenant", code="wrong_signer")
    if document.manifest != commitment(said.manifest):
        raise Refused(
            "this is not the manifest that the replacement commits to",
            code="wrong_manifest",
        )
    if desk.record.stage is not Stage.RUNNING:
        raise Refused("no program runs here now", code="not_running")
    if desk.record.program >= limits.REPLACEMENTS_MAX:
        raise Refused(
            f"the program was replaced {desk.record.program} times; order a new lease",
            code="too_many_replacements",
        )
    check_manifest(said.manifest)
    before = desk.find_manifest()
    if before is None or desk.is_sealed or said.manifest.sealed is not None:
        raise Refused(
            "what is sealed is not replaced; stop it and start it anew",
            code="not_replaceable",
        )
    check_unchanged(before, said.manifest)
    check_leased(said.manifest, lease)
    check_image(said.manifest, around)


def check_unchanged(before: Manifest, after: Manifest) -> None:
    """Check that nothing changes but image, command, variables and secrets.

    Raises:
        Refused: the members that differ, and what to do instead.
    """
    differ = [name for name in FIXED if getattr(before, name) != getattr(after, name)]
    if before.kind != "command":
        differ.insert(0, "kind")
    if differ:
        raise Refused(
            f"{', '.join(dict.fromkeys(differ))}: fixed for the length of a lease; "
            "stop the job and start it anew",
            code="not_replaceable",
            field=f"manifest.{differ[0]}",
        )
    files = {file.path for file in after.inputs.files}
    if after.image:
        reference = parse_reference(after.image, field="manifest.image")
        files -= {reference.path} if reference.kind in ARCHIVES else set()
    if files or after.resume.files:
        raise Refused(
            "inputs: a replacement brings no files but its image; put files there "
            "with: sublet cp",
            code="not_replaceable",
            field="manifest.inputs",
        )


def is_of(delivery: Signed, manifest: Manifest) -> bool:
    """Say whether a signed delivery is that of this manifest."""
    match delivery.document:
        case Delivery(manifest=digest):
            return digest == commitment(manifest)
    return False

"""A file of evidence about one unit, with the evidence about its leases: read, checked.

What ``sublet render check`` computes: the leases' evidence is checked byte by byte, as
``sublet dispute verify`` does, so that their receipts count; then the trial is held
again (``core.render.evidence``). Without a network, and without Blender.
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.document import Receipt
from sublet.core.render.evidence import BadEvidence, Evidence, Shown, Signed, show
from sublet.core.render.unit import Unit
from sublet.wire.codec import decode, encode
from sublet.wire.dispute import Opened, judge, open_dispute

FILE_BYTES_MAX = 256 * 1024 * 1024


class EvidenceReport(Struct, frozen=True):
    """What a file shows; and what it cannot."""

    unit: Unit
    worker: Address
    phase: str  # of the trial, as it comes out here
    liar: Address  # "" where nobody can be named
    reason: str
    findings: str  # worker's and checker's pictures, in words
    markets: tuple[Digest, ...]  # whose logs hold the receipts
    bound: tuple[Address, ...]  # whose words their receipts cover
    not_proven: tuple[str, ...]


def write_evidence(evidence: Evidence) -> bytes:
    """Write the file, once it holds.

    Raises:
        PeerFault: it would not, as ``check_evidence`` raises.
    """
    raw = encode(evidence)
    check_evidence(raw)
    return raw


def read_evidence(raw: bytes) -> Evidence:
    """Read a file; nothing in it is checked but its shape.

    Raises:
        Undecodable: it is none.
        UnsupportedVersion: of another version.
    """
    return decode(raw, Evidence, size_max=FILE_BYTES_MAX)


def check_evidence(raw: bytes) -> EvidenceReport:
    """Check a file, all that needs no Blender.

    Raises:
        PeerFault: something in it does not hold: ``BadEvidence``, ``BadProof``, or what
            ``open_dispute`` and ``judge`` raise of a lease.
    """
    evidence = read_evidence(raw)
    signed: dict[Digest, Signed] = {}
    markets: dict[Digest, None] = {}
    for text in evidence.leases:
        opened = open_dispute(text.encode())
        judge(opened)
        if opened.dispute.lease in signed:
            raise BadEvidence(f"lease {opened.dispute.lease} is there twice")
        signed[opened.dispute.lease] = _find_receipt(opened)
        markets[opened.dispute.market] = None
    shown = show(evidence, signed=signed)
    return EvidenceReport(
        unit=evidence.unit,
        worker=evidence.worker.provider,
        phase=shown.trial.phase.value,
        liar=shown.trial.liar,
        reason=shown.trial.reason,
        findings=shown.against_worker.describe(),
        markets=tuple(markets),
        bound=shown.bound,
        not_proven=_find_not_proven(evidence, shown),
    )


def _find_receipt(opened: Opened) -> Signed:
    """Give what the provider signed at the end; what was void in the log is not it."""
    lease = opened.dispute.lease
    for heard in opened.heard:
        document = heard.fact.document
        if isinstance(document, Receipt) and not heard.void:
            return Signed(heard.fact.signer, document.stdout)
    raise BadEvidence(f"the evidence about lease {lease} has no receipt")


def _find_not_proven(evidence: Evidence, shown: Shown) -> tuple[str, ...]:
    """Say what this cannot show, one sentence each."""
    said = [
        f"{who} has signed no receipt that covers its words: that it said so is the word"
        " of whoever made this file"
        for who in shown.unbound
    ]
    blocks = ", ".join(str(probe.block) for probe in evidence.probes)
    said.append(
        "who is right is the word of those who agree; to see it, render blocks"
        f" {blocks} of frame {evidence.unit.frame} with {evidence.recipe.build}"
    )
    said.append(
        "that the probes were drawn from the salt shows with the whole picture of hash"
        f" {shown.pixels}; a right picture stands wherever it is probed"
    )
    return tuple(said)

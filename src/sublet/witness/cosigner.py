"""What a witness decides: sign, or say why not. It persists before it signs.

For each log it remembers the largest checkpoint that it cosigned. A new one is signed
only with a proof that it goes on from there; so no two cosignatures of one witness
ever speak of two histories, whatever a log asks for.

Not here: HTTP (``app``), asking markets for news (``follow``).
"""

from http import HTTPStatus

from sublet.base.errors import SubletError
from sublet.base.ids import Digest
from sublet.core.merkle import BadProof, verify_consistency
from sublet.sdk.log_watch import LogLie, Memory
from sublet.service.ports import Clock
from sublet.wire.codec import origin_of
from sublet.wire.cosignature import (
    SIZE_MEDIA,
    AddCheckpoint,
    WitnessKey,
    add_signatures,
    read_request,
)
from sublet.wire.note import (
    BadNote,
    Checkpoint,
    read_checkpoint,
    read_text,
    split_note,
)
from sublet.wire.split_view import make_split_view
from sublet.witness.config import Pin


class Declined(SubletError):
    """The witness does not cosign this checkpoint; the answer says why."""

    code = "declined"

    def __init__(
        self, message: str, *, status: HTTPStatus, media: str = "text/plain"
    ) -> None:
        """Take the text, and the status that C2SP's tlog-witness gives it."""
        super().__init__(message)
        self.status = status
        self.media = media


class Cosigner:
    """One witness. Methods block on the disk; call them in a thread."""

    def __init__(
        self, key: WitnessKey, memory: Memory, *, clock: Clock, pins: list[Pin]
    ) -> None:
        """Take the key, the memory and the logs that are followed."""
        self._key = key
        self._memory = memory
        self._clock = clock
        self._pins = {origin_of(pin.market): pin for pin in pins}
        self.split: set[Digest] = set()  # markets that were caught since the start

    def add(self, body: bytes) -> str:
        """Answer ``POST /add-checkpoint``: the line of the cosignature.

        Raises:
            Declined: with the status that the specification gives.
            Unavailable: the disk failed; nothing was signed.
        """
        try:
            request = read_request(body)
            text, _ = split_note(request.note)
            origin = read_text(text).origin
        except BadNote as error:
            raise Declined(error.message, status=HTTPStatus.BAD_REQUEST) from error
        pin = self._pins.get(origin)
        if pin is None:
            raise Declined(
                "this witness does not follow that log; ask its owner to run: sublet "
                "witness add URL",
                status=HTTPStatus.NOT_FOUND,
            )
        return self._add(pin, request)

    def find(self, market: Digest) -> bytes | None:
        """Give the newest note of a market with this witness's cosignature, or None."""
        return self._memory.find(market)

    def _add(self, pin: Pin, request: AddCheckpoint) -> str:
        try:
            new = read_checkpoint(request.note, verifier_key=pin.verifier_key)
        except BadNote as error:
            raise Declined(error.message, status=HTTPStatus.FORBIDDEN) from error
        if request.old > new.size:
            raise Declined(
                f"old {request.old} is more than the checkpoint's {new.size} entries",
                status=HTTPStatus.BAD_REQUEST,
            )
        line = ""

        def change(kept: bytes | None) -> bytes:
            nonlocal line
            self._check(pin, request, new, kept)
            line = self._key.cosign(request.note, at_s=self._clock.now_s())
            return add_signatures(request.note, [line])

        # The note is on the disk before the line leaves this function.
        self._memory.update(pin.market, change)
        return line

    def _check(
        self, pin: Pin, request: AddCheckpoint, new: Checkpoint, kept: bytes | None
    ) -> None:
        old = None if kept is None else _read_kept(kept)
        known = old.size if old is not None else 0
        if request.old != known:
            self._catch(pin, request.note, new, kept)
            raise Declined(f"{known}\n", status=HTTPStatus.CONFLICT, media=SIZE_MEDIA)
        if old is None or kept is None:
            return
        if new.size == old.size and new.root != old.root:
            self._catch(pin, request.note, new, kept)
            raise Declined(f"{known}\n", status=HTTPStatus.CONFLICT, media=SIZE_MEDIA)
        try:
            verify_consistency(
                old=old.size,
                new=new.size,
                old_root=old.root,
                new_root=new.root,
                proof=request.proof,
            )
        except BadProof as error:
            raise Declined(
                error.message, status=HTTPStatus.UNPROCESSABLE_ENTITY
            ) from error

    def _catch(
        self, pin: Pin, note: bytes, new: Checkpoint, kept: bytes | None
    ) -> None:
        """Keep two notes over one size that differ: the log signed both."""
        old = None if kept is None else _read_kept(kept)
        if old is None or kept is None or old.size != new.size or old.root == new.root:
            return
        lie = LogLie("two checkpoints of one size")
        lie.shown = make_split_view(
            verifier_key=pin.verifier_key, first=kept, second=note
        )
        self.accuse(pin, lie)

    def accuse(self, pin: Pin, lie: LogLie) -> None:
        """Remember that a market was caught, and keep the evidence."""
        self.split.add(pin.market)
        if lie.shown is not None and lie.place is None:
            lie.place = self._memory.keep_evidence(pin.market, lie.shown.to_bytes())


def _read_kept(kept: bytes) -> Checkpoint:
    # Verified before it was kept; who may write here is this witness alone.
    text, _ = split_note(kept)
    return read_text(text)

"""The standing offer: posted, renewed before it expires, withdrawn on request."""

import asyncio
from pathlib import Path

import msgspec

from sublet.base.errors import SubletError
from sublet.base.ids import Digest
from sublet.core.document import Offer, OfferWithdrawal
from sublet.core.egress import FEATURE as EGRESS
from sublet.core.lease.table import ERASURE
from sublet.provider.config import Config, make_offer
from sublet.provider.record import write_atomic
from sublet.provider.surroundings import Surroundings, draw_salt
from sublet.wire.typed_data import digest

LASTS_S = 3_600  # of one offer
RENEWED_S = 1_200  # before it expires, so that a market may be away for that long
RETRY_S = 30  # after the market has refused it
KEPT_MAX = 16  # offers that matches may still name


class Offering:
    """What this provider offers; the offers that were posted lately."""

    def __init__(self, path: Path, around: Surroundings, *, ssh_host_key: str) -> None:
        """Take the file in which offers are remembered; nothing is read yet."""
        self._path = path
        self._around = around
        self._ssh_host_key = ssh_host_key
        self._posted: dict[Digest, Offer] = {}
        self.barred = ""  # why nothing more is offered, whatever the owner's rules say
        self._has_posted = False
        self._admitted = asyncio.Event()  # to a control link, once
        self._withdrawn = asyncio.Event()
        self._moved = asyncio.Event()  # held, released, or for another time
        self._is_held = around.config.rules.is_any  # until the rules were looked at
        self._until_s = 0  # it is on offer until then; 0 for good
        self._refused = asyncio.Event()

    def load(self) -> None:
        """Remember what an earlier agent has posted."""
        try:
            raw = self._path.read_bytes()
            self._posted = msgspec.json.decode(raw, type=dict[Digest, Offer])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as exc:
            self._around.journal.warn("offers_forgotten", why=str(exc))

    def find(self, offer_id: Digest) -> Offer | None:
        """Give an offer that was posted lately, or None."""
        return self._posted.get(offer_id)

    @property
    def newest(self) -> tuple[Digest, Offer] | None:
        """The offer that stands, with its id."""
        if not self._posted or self._withdrawn.is_set() or self._is_held:
            return None
        return list(self._posted.items())[-1]

    async def run(self) -> None:
        """Post the offer and renew it, until it is withdrawn.

        Nothing is posted before a node has admitted this agent: there may be another
        one with its key.
        """
        await self._admitted.wait()
        while not self._withdrawn.is_set():
            self._moved.clear()
            if not self._is_held:
                self._try_to_post()
            await self._wait_due()

    def _try_to_post(self) -> None:
        try:
            self._post(self._around.config)
        except SubletError as fault:
            self._around.journal.warn(
                "offer_failed", code=fault.code, why=fault.message
            )

    async def _wait_due(self) -> None:
        """Wait until it is time to post again: it expires, or was refused a while ago."""
        withdrawn = asyncio.create_task(self._withdrawn.wait())
        refused = asyncio.create_task(self._refused.wait())
        moved = asyncio.create_task(self._moved.wait())
        try:
            await asyncio.wait(
                (withdrawn, refused, moved),
                timeout=LASTS_S - RENEWED_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._refused.is_set():
                self._refused.clear()
                await asyncio.wait((withdrawn,), timeout=RETRY_S)
        finally:
            for task in (withdrawn, refused, moved):
                task.cancel()

    def admit(self) -> None:
        """A node has admitted this agent: from now on it offers."""
        self._admitted.set()

    def bar(self, reason: str) -> None:
        """Offer nothing more, for good; what this agent has posted is taken back."""
        if not self.barred:
            self.barred = reason
            if self._has_posted:
                self.hold()
            self._is_held = True

    def note_refused(self) -> None:
        """The market has refused the offer: post it again in a while."""
        self._refused.set()

    def withdraw(self) -> None:
        """Take the offer back; running leases go on. Twice is harmless."""
        standing = self.newest
        self._withdrawn.set()
        if standing is not None:
            self._take_back(standing[0])

    def hold(self) -> None:
        """Take the offer back until it is released: the owner's rules say so."""
        if not self._withdrawn.is_set() and self._posted:
            offer_id, offer = list(self._posted.items())[-1]
            if offer.expires_at_s > self._around.clock.now_s():
                self._take_back(offer_id)
        self._is_held = True
        self._moved.set()

    def release(self, until_s: int) -> None:
        """Offer again, until then (0: for good); once more is harmless."""
        if self.barred:
            return
        is_same = not self._is_held and until_s == self._until_s
        self._is_held, self._until_s = False, until_s
        if not is_same:
            self._moved.set()

    def _take_back(self, offer_id: Digest) -> None:
        self._around.put(
            OfferWithdrawal(
                offer_id=offer_id,
                signed_at_s=self._around.clock.now_s(),
                salt=draw_salt(),
            )
        )

    def _features(self, config: Config) -> tuple[str, ...]:
        scratches, has_gpus = self._around.scratches, bool(config.gpu_uuids)
        found = [EGRESS] if config.egress.allow else []
        is_parted = has_gpus and bool(config.declared.gpu_sharing)
        if scratches.may_erase(has_gpus=has_gpus) and not is_parted:
            found.append(ERASURE)
        found += config.images.features if self._around.images.is_ok else ()
        return tuple(found)

    def _post(self, config: Config) -> None:
        now_s = self._around.clock.now_s()
        if self._until_s and self._until_s <= now_s:
            return  # the hours are over, and whoever looks at them is about to say so
        offer = make_offer(
            config,
            ssh_host_key=self._ssh_host_key,
            seal_key=self._around.seal_key.line,
            sandboxes=self._around.sandboxes.names,
            features=self._features(config),
            now_s=now_s,
            lasts_s=min(LASTS_S, self._until_s - now_s) if self._until_s else LASTS_S,
            salt=draw_salt(),
        )
        self._posted[digest(offer, self._around.domain)] = offer
        for offer_id in list(self._posted)[:-KEPT_MAX]:
            del self._posted[offer_id]
        write_atomic(self._path, msgspec.json.encode(self._posted))
        self._has_posted = True
        self._around.put(offer)

"""The standing offer: posted, renewed before it expires, withdrawn on request."""

import asyncio
from pathlib import Path

import msgspec

from sublet.base.errors import SubletError
from sublet.base.ids import Digest
from sublet.core.document import Offer, OfferWithdrawal
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
        self._withdrawn = asyncio.Event()
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
        if not self._posted or self._withdrawn.is_set():
            return None
        return list(self._posted.items())[-1]

    async def run(self) -> None:
        """Post the offer and renew it, until it is withdrawn."""
        while not self._withdrawn.is_set():
            try:
                self._post(self._around.config)
            except SubletError as fault:
                self._around.journal.warn(
                    "offer_failed", code=fault.code, why=fault.message
                )
            await self._wait_due()

    async def _wait_due(self) -> None:
        """Wait until it is time to post again: it expires, or was refused a while ago."""
        withdrawn = asyncio.create_task(self._withdrawn.wait())
        refused = asyncio.create_task(self._refused.wait())
        try:
            await asyncio.wait(
                (withdrawn, refused),
                timeout=LASTS_S - RENEWED_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._refused.is_set():
                self._refused.clear()
                await asyncio.wait((withdrawn,), timeout=RETRY_S)
        finally:
            withdrawn.cancel()
            refused.cancel()

    def note_refused(self) -> None:
        """The market has refused the offer: post it again in a while."""
        self._refused.set()

    def withdraw(self) -> None:
        """Take the offer back; running leases go on. Twice is harmless."""
        standing = self.newest
        self._withdrawn.set()
        if standing is not None:
            self._around.put(
                OfferWithdrawal(
                    offer_id=standing[0],
                    signed_at_s=self._around.clock.now_s(),
                    salt=draw_salt(),
                )
            )

    def _post(self, config: Config) -> None:
        offer = make_offer(
            config,
            ssh_host_key=self._ssh_host_key,
            sandboxes=(self._around.sandbox.name,),
            now_s=self._around.clock.now_s(),
            lasts_s=LASTS_S,
            salt=draw_salt(),
        )
        self._posted[digest(offer, self._around.domain)] = offer
        for offer_id in list(self._posted)[:-KEPT_MAX]:
            del self._posted[offer_id]
        write_atomic(self._path, msgspec.json.encode(self._posted))
        self._around.put(offer)

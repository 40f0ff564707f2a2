"""The node's own work: providers seen and lost, deadlines that are due.

Three loops. One tells the market's other nodes whom this one has heard: a provider is
lost once none of them has. The others look at the book as it is, say what is missing,
and look again; a store that does not answer is asked again, so nothing is remembered
here but when each provider was last heard.
"""

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial

from sublet.base.errors import Unavailable
from sublet.base.ids import Address
from sublet.core.document import ProviderLost, ProviderSeen
from sublet.node.journal import Journal
from sublet.node.liveness import Liveness
from sublet.node.race import race
from sublet.service.market import MarketService
from sublet.service.ports import ANY_GROUND, Clock, Ground, Presence
from sublet.service.writer import AWAY_MS

TICK_S = 1.0  # deadlines are whole seconds: no more than one tick each
LOOK_S = 0.25  # between two looks at who is silent
BEAT_S = 0.5  # between two words to the market's other nodes
SALT_BITS = 63


class Watch:
    """Keeps the book's view of providers and time up with the world."""

    def __init__(
        self,
        market: MarketService,
        *,
        clock: Clock,
        presence: Presence,
        lost_after_s: int,
        gone_after_s: int,
        journal: Journal,
    ) -> None:
        """Give every provider that the book calls up the full grace from now on."""
        self._market = market
        self._clock = clock
        self._presence = presence
        self._journal = journal
        self._looked_ms = clock.monotonic_ms()
        self._liveness = Liveness(
            lost_after_ms=lost_after_s * 1_000,
            gone_after_ms=gone_after_s * 1_000,
            now_ms=self._looked_ms,
        )
        self._reconciling = asyncio.Lock()

    def note_linked(self, provider: Address) -> None:
        """A control link to this provider stands."""
        self._liveness.note_linked(provider, now_ms=self._clock.monotonic_ms())

    def note_heard(self, provider: Address) -> None:
        """A frame came from this provider."""
        self._liveness.note_heard(provider, now_ms=self._clock.monotonic_ms())

    def note_unlinked(self, provider: Address) -> None:
        """The control link to this provider is gone."""
        self._liveness.note_unlinked(provider)

    def note_broken_off(self, provider: Address) -> None:
        """The control link to this provider is gone, and it said no goodbye."""
        self._liveness.note_broken_off(provider, now_ms=self._clock.monotonic_ms())

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            Broken: an invariant of the market fell.
        """
        await race(self._tick(), self._look(), self._beat())

    async def reconcile(self) -> None:
        """Say who is newly seen and who is lost; what fails is tried again later."""
        async with self._reconciling:
            providers = self._market.book.providers.values()
            up = frozenset(each.provider for each in providers if each.is_up)
            now_ms = self._clock.monotonic_ms()
            if now_ms - self._looked_ms > AWAY_MS:
                self._liveness.begin_anew(now_ms=now_ms)
                self._journal.warning(
                    "was_away", seconds=(now_ms - self._looked_ms) // 1_000
                )
            self._looked_ms = now_ms
            seen, lost = self._liveness.decide(up, now_ms=now_ms)
            try:
                if lost:
                    lost = await self._find_silent(lost)
                await asyncio.gather(
                    *(self._say_seen(provider) for provider in seen),
                    *(self._say_lost(one, silent_ms=ms) for one, ms in lost.items()),
                )
            except Unavailable as error:
                self._journal.warning("watch_put_off", code=error.code)

    async def _say_seen(self, provider: Address) -> None:
        said = ProviderSeen(
            provider=provider,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        result = await self._market.say(said)
        if result.refusal is None:  # else another node was first
            self._journal.info("provider_seen", provider=provider)

    async def _say_lost(self, provider: Address, *, silent_ms: int) -> None:
        said = ProviderLost(
            provider=provider,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        ground = ANY_GROUND
        if self._market.is_shared:
            # The log looks once more: by now it may be linked to another node.
            ground = Ground(silent=provider, silent_ms=silent_ms)
        result = await self._market.say(said, ground=ground)
        if result.refusal is None:
            self._journal.warning("provider_lost", provider=provider)

    async def _find_silent(self, lost: Mapping[Address, int]) -> dict[Address, int]:
        """Keep those that no other node has heard either, for as long."""
        silent: dict[Address, int] = {}
        for silent_ms in sorted(set(lost.values())):
            those = [one for one, ms in lost.items() if ms == silent_ms]
            find = partial(self._presence.find_silent, those, silent_ms=silent_ms)
            silent.update(dict.fromkeys(await asyncio.to_thread(find), silent_ms))
        return silent

    async def _beat(self) -> None:
        while True:
            heard = self._liveness.take_heard()
            try:
                is_attended = await asyncio.to_thread(self._presence.beat, heard)
                if not is_attended:
                    await self._market.hear_others()
            except Unavailable as error:
                self._liveness.put_heard(heard)
                self._journal.warning("beat_put_off", code=error.code)
            await asyncio.sleep(BEAT_S)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._market.tick()
            except Unavailable as error:
                self._journal.warning("tick_put_off", code=error.code)

    async def _look(self) -> None:
        while True:
            await self.reconcile()
            await asyncio.sleep(LOOK_S)

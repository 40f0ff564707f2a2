"""What is said to the tenant of a lease: a queue that a job channel empties.

A lease goes on whether anybody listens or not. While nobody does, nothing is kept:
whoever dials again is told where things stand.
"""

import asyncio
from collections.abc import AsyncIterator

from sublet.wire.message import JobSays

WAITING_MAX = 256  # messages; a tenant that reads none of so many is cut off


class Listener:
    """One open job channel's end of the queue."""

    def __init__(self) -> None:
        """Begin with nothing to hear."""
        self._queue: asyncio.Queue[JobSays | None] = asyncio.Queue()

    def push(self, message: JobSays) -> None:
        """Add a message; beyond the limit the conversation is over."""
        if self._queue.qsize() >= WAITING_MAX:
            self.end()
        else:
            self._queue.put_nowait(message)

    def end(self) -> None:
        """End behind what was said; twice is harmless."""
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[JobSays]:
        """Give messages until the end."""
        while (message := await self._queue.get()) is not None:
            yield message


class Conversation:
    """The provider's side of a lease's job channels: the newest one counts."""

    def __init__(self) -> None:
        """Begin with nobody listening."""
        self._listener: Listener | None = None

    @property
    def is_open(self) -> bool:
        """Say whether somebody listens."""
        return self._listener is not None

    def attach(self, listener: Listener) -> None:
        """Take a new listener; the older one's channel ends."""
        if self._listener is not None:
            self._listener.end()
        self._listener = listener

    def detach(self, listener: Listener) -> None:
        """Forget a listener that has gone; a newer one stays."""
        if self._listener is listener:
            self._listener = None

    def push(self, message: JobSays) -> None:
        """Say something; unheard where nobody listens."""
        if self._listener is not None:
            self._listener.push(message)

    def close(self) -> None:
        """End the conversation behind what was said."""
        if self._listener is not None:
            self._listener.end()
            self._listener = None

"""Who sends a request: the signature in its head, and that it comes only once.

Not here: how the header is made and checked (``wire.request``), who may see what
(the handlers).
"""

import heapq

from sublet.base.errors import Unavailable
from sublet.base.ids import Address
from sublet.base.limits import REQUEST_AGE_S_MAX
from sublet.wire.request import Unauthorized, check_authorization
from sublet.wire.typed_data import Domain

REQUESTS_REMEMBERED_MAX = 500_000


class Door:
    """Admits each signed request once.

    A pair (address, nonce) is remembered for as long as its request could be good
    anywhere within the window, not longer; when the memory is full, requests are put
    off rather than a replay let in.
    """

    def __init__(
        self, domain: Domain, *, remembered_max: int = REQUESTS_REMEMBERED_MAX
    ) -> None:
        """Begin with nothing remembered."""
        self._domain = domain
        self._remembered_max = remembered_max
        self._known: set[tuple[Address, int]] = set()
        self._expiries: list[tuple[int, tuple[Address, int]]] = []

    def admit(
        self, header: str | None, *, method: str, path: str, body: bytes, now_s: int
    ) -> Address:
        """Say who signed this request.

        Args:
            header: the value of ``Authorization``.
            method: in capitals.
            path: as sent, with the query.
            body: as sent.
            now_s: this node's clock.

        Raises:
            Unauthorized: not signed, wrongly signed, too old or seen before.
            Unavailable: too many requests are remembered just now.
        """
        if not path.isascii():
            raise Unauthorized("a path is ASCII; percent-encode the rest", field="path")
        address, nonce = check_authorization(
            header,
            domain=self._domain,
            method=method,
            path=path,
            body=body,
            now_s=now_s,
        )
        self._remember(address, nonce, now_s=now_s)
        return address

    def _remember(self, address: Address, nonce: int, *, now_s: int) -> None:
        while self._expiries and self._expiries[0][0] < now_s:
            self._known.discard(heapq.heappop(self._expiries)[1])
        pair = (address, nonce)
        if pair in self._known:
            raise Unauthorized(
                "this request was made before; use a new nonce for each",
                code="replayed_authorization",
            )
        if len(self._known) >= self._remembered_max:
            raise Unavailable(
                "this node is asked too much just now; try again",
                code="overloaded",
                retry_after_s=REQUEST_AGE_S_MAX,
            )
        self._known.add(pair)
        # Good from at_s - age to at_s + age, and at_s is at most now + age.
        heapq.heappush(self._expiries, (now_s + 2 * REQUEST_AGE_S_MAX, pair))

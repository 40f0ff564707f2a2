"""Every error that Sublet raises on purpose, sorted by who must act now.

    SubletError
    ├── Refused      the caller asked what cannot be granted; fix the request
    ├── Unavailable  a peer, store or device did not answer; retry later
    ├── PeerFault    the other side broke the protocol; evidence attached
    └── Broken       our own invariant fell; the process stops
        └── Outdated     this program is too old for what it reads; update it

Each carries a stable ``code`` (snake_case, documented in ``docs/errors.md``) and
plain values only. Faces alone turn errors into status codes, exit codes and prose.
Errors of one domain subclass a branch where they are raised.
"""

from collections.abc import Mapping


class SubletError(Exception):
    """Something went wrong in Sublet."""

    code = "error"

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        field: str = "",
        detail: Mapping[str, str | int] | None = None,
    ) -> None:
        """Take the message (default: the docstring), and where it applies.

        Args:
            message: one sentence that says what is wrong and what to do.
            code: stable snake_case name; the class's own by default.
            field: the input at fault, such as ``--memory`` or ``order.cpus_milli``.
            detail: ids and numbers, safe to show and to log.
        """
        text = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(text)
        self.message = text
        self.code = code or type(self).code
        self.field = field
        self.detail = dict(detail or {})


class Refused(SubletError):
    """The request cannot be granted as it stands; change it and try again."""

    code = "refused"


class Unavailable(SubletError):
    """Something that is needed did not answer; try again later."""

    code = "unavailable"

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        field: str = "",
        detail: Mapping[str, str | int] | None = None,
        retry_after_s: int = 0,
    ) -> None:
        """As SubletError; ``retry_after_s`` is 0 where nobody knows."""
        super().__init__(message, code=code, field=field, detail=detail)
        self.retry_after_s = retry_after_s


class PeerFault(SubletError):
    """The other side broke the protocol; the evidence is attached."""

    code = "peer_fault"


class Broken(SubletError):
    """One of Sublet's own invariants fell; the process stops: better late than wrong."""

    code = "broken"


class Outdated(Broken):
    """This program does not read what the log goes on with; update sublet."""

    code = "outdated"


class Faults(Refused):
    """Several things are wrong with the input; all of them are listed."""

    code = "faults"

    def __init__(self, faults: list[SubletError]) -> None:
        """Take all faults of one input, at least one."""
        super().__init__("\n".join(fault.message for fault in faults))
        self.faults = tuple(faults)

"""What can be fuzzed: each parser of foreign bytes, with the values it is made for.

A target's ``run`` takes any bytes. Our own errors are its answer; whatever else comes
out, a promise that does not hold (``assert``) included, has found something.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sublet.base.errors import Broken, SubletError

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    run: Run
    seeds: tuple[bytes, ...]  # real values, made by the code itself
    words: tuple[bytes, ...] = ()  # that mean something to it
    answers: tuple[type[Exception], ...] = ()  # beside ``SubletError``

    def feed(self, raw: bytes) -> bool:
        """Run it once; say whether the bytes were taken."""
        try:
            self.run(raw)
        except Broken:
            raise  # no stranger's bytes may stop a process
        except (SubletError, *self.answers):
            return False
        return True


TARGETS: dict[str, Target] = {}


def target(
    name: str,
    *,
    seeds: Sequence[bytes | str],
    words: Sequence[bytes | str] = (),
    answers: tuple[type[Exception], ...] = (),
) -> Callable[[Run], Run]:
    """Enter a function into the table."""

    def enter(run: Run) -> Run:
        assert name not in TARGETS
        TARGETS[name] = Target(
            name, run, tuple(map(_raw, seeds)), tuple(map(_raw, words)), answers
        )
        return run

    return enter


def _raw(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def text_of(raw: bytes) -> str:
    """Read bytes as a process gets its arguments: what is no UTF-8 stays visible."""
    return raw.decode("utf-8", "surrogateescape")

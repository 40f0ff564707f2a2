"""The rest of a wish but its files: stubbornness, outputs, variables, names. Pure."""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise

from sublet.base import limits
from sublet.core.book.mode import SPOT, STANDING
from sublet.core.job.state import RETRIES, WAIT_MS, JobLimits
from sublet.wire.path import find_path_fault
from sublet.workload.run.gang_need import check_variables
from sublet.workload.run.need import parse_needs, parse_span
from sublet.workload.run.wish import Collector, Terms, Wanted, Wish, refuse

WAIT_S_MAX = 86_400
OUTPUTS_MAX = 64

_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def parse_terms(
    wish: Wish,
    *,
    environment: Mapping[str, str],
    read_secret: Callable[[str], str],
    now_s: int,
) -> Terms:
    """Read everything about a wish but its files.

    Args:
        wish: as typed.
        environment: of this process; names without a value are taken from it.
        read_secret: gives the content of a file that a secret names.
        now_s: from which on spans count.

    Raises:
        Faults: all that is wrong.
    """
    found = Collector()
    needs = parse_needs(wish, found, now_s=now_s)
    terms = Terms(
        needs=needs,
        limits=found.take(JobLimits(), _parse_limits, wish, mode=needs.mode),
        outputs=tuple(
            found.take(Wanted("", ""), parse_output, text) for text in wish.outputs
        ),
        checkpoint=found.take("", _parse_checkpoint, wish),
        env=_parse_env(wish.env, environment, found),
        secrets=_parse_secrets(wish.secrets, environment, read_secret, found),
        name=found.take("", _parse_name, wish),
        volumes=wish.volumes,
    )
    found.take(None, _check_outputs, terms)
    found.take(None, check_variables, terms)
    found.check()
    return terms


def _parse_limits(wish: Wish, *, mode: str) -> JobLimits:
    gives_way = mode == SPOT
    wait_ms = 0 if mode == STANDING else WAIT_MS  # such an order has waited itself
    if wish.wait is not None:
        wait_ms = parse_span(wish.wait, "--wait", 0, WAIT_S_MAX) * 1_000
    if wish.retries is None:
        return JobLimits(retries=RETRIES, wait_ms=wait_ms, gives_way=gives_way)
    if not 0 <= wish.retries <= limits.RETRIES_MAX:
        raise refuse(
            "--retries",
            f"{wish.retries} is not between 0 and {limits.RETRIES_MAX}",
            code="out_of_range",
        )
    # Whoever names a number means the program's own failures too.
    return JobLimits(
        retries=wish.retries, retries_own=True, wait_ms=wait_ms, gives_way=gives_way
    )


# ---- names and paths ----------------------------------------------------------------


def _parse_name(wish: Wish) -> str:
    if wish.name is not None and _NAME.match(wish.name) is None:
        raise refuse(
            "--name",
            f"{wish.name[:80]!r} is not a name; use letters, digits, '.', '_', '-'",
            code="bad_name",
        )
    return wish.name or ""


def parse_output(text: str) -> Wanted:
    """Read ``REMOTE`` or ``REMOTE:LOCAL``.

    Raises:
        Refused: the remote path leaves the job's work folder.

    >>> parse_output("model/"), parse_output("model.npz:out/model.npz")
    (Wanted(remote='model', local=''), Wanted(remote='model.npz', local='out/model.npz'))
    """
    remote, colon, local = text.partition(":")
    if colon and not local:
        raise refuse("--output", f"{text[:200]!r} names no local path", code="bad_path")
    return Wanted(remote=_work_path(remote, "--output"), local=local)


def _parse_checkpoint(wish: Wish) -> str:
    if wish.checkpoint is None:
        return ""
    return _work_path(wish.checkpoint, "--checkpoint")


def _work_path(text: str, field: str) -> str:
    """A path in the work folder; ``./`` before and ``/`` behind it mean nothing."""
    path = text.removeprefix("./").rstrip("/")
    fault = find_path_fault(path)
    if text.startswith("/"):
        fault = "is absolute"
    if fault:
        raise refuse(
            field,
            f"{text[:200]!r} {fault}; name a path inside the job's work folder",
            code="bad_path",
        )
    return path


def _check_outputs(terms: Terms) -> None:
    if len(terms.outputs) > OUTPUTS_MAX:
        raise refuse("--output", f"at most {OUTPUTS_MAX}", code="too_many_outputs")
    paths = sorted(wanted.remote.split("/") for wanted in terms.outputs)
    for left, right in pairwise(paths):
        if left != [""] and right[: len(left)] == left:
            raise refuse(
                "--output",
                f"{'/'.join(right)!r} is named twice, or lies in {'/'.join(left)!r}",
                code="bad_path",
            )


# ---- variables ----------------------------------------------------------------------


def _parse_env(
    texts: tuple[str, ...], environment: Mapping[str, str], found: Collector
) -> dict[str, str]:
    variables: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        found.take(None, _check_variable, name, "--env")
        if not equals:
            if name not in environment:
                found.faults.append(
                    refuse(
                        "--env",
                        f"{name[:80]} is not set here; write --env {name[:80]}=VALUE",
                        code="unset_variable",
                    )
                )
            value = environment.get(name, "")
        variables[name] = value
    return variables


def _parse_secrets(
    texts: tuple[str, ...],
    environment: Mapping[str, str],
    read_secret: Callable[[str], str],
    found: Collector,
) -> dict[str, str]:
    secrets: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        found.take(None, _check_variable, name, "--secret")
        if equals and not source.startswith("@"):
            # The value is not repeated: this message may end up in a log.
            found.faults.append(
                refuse(
                    "--secret",
                    f"{name[:80]} is written on the command line, where every user of "
                    f"this machine can read it; write --secret {name[:80]} (taken from "
                    f"the environment) or --secret {name[:80]}=@FILE",
                    code="secret_on_command_line",
                )
            )
        elif equals:
            secrets[name] = found.take("", read_secret, source[1:])
        elif name not in environment:
            found.faults.append(
                refuse(
                    "--secret",
                    f"{name[:80]} is not set here; export it, or write --secret "
                    f"{name[:80]}=@FILE",
                    code="unset_variable",
                )
            )
        else:
            secrets[name] = environment[name]
    return secrets


def _check_variable(name: str, field: str) -> None:
    if _VARIABLE.match(name) is None:
        raise refuse(
            field, f"{name[:80]!r} is no name of a variable", code="bad_variable"
        )

"""Passwords from the terminal, a private file or a file descriptor; never from argv."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="The password is the first line of FILE, which only you may read.",
    ),
]
PasswordFdOption = Annotated[
    int | None,
    typer.Option(
        "--password-fd",
        metavar="N",
        help="The password is the first line that descriptor N gives.",
    ),
]

LENGTH_MIN = 8  # characters of a new one
_BYTES_MAX = 1_024


def read_password(
    file: Path | None, descriptor: int | None, *, what: str, is_new: bool = False
) -> str:
    """Get a password; ask for it on the terminal where nothing else is said.

    Args:
        file: holds it; private.
        descriptor: gives it.
        what: whose it is, for the question.
        is_new: it is asked for twice, and may not be short.

    Raises:
        Refused: ``no_password`` (and nobody to ask), ``password_mismatch``,
            ``weak_password``, or what is wrong with the file.
    """
    from sublet.base.errors import Refused

    if file is not None:
        from sublet.adapter.key_file import load_private

        text = load_private(file.expanduser(), str, size_max=_BYTES_MAX)
    elif descriptor is not None:
        text = _read_descriptor(descriptor)
    elif sys.stdin.isatty():
        text = _ask(what, is_new=is_new)
    else:
        raise Refused(
            f"{what} needs a password, and there is no terminal to ask on; give "
            "--password-file or --password-fd",
            code="no_password",
        )
    password = (text.splitlines() or [""])[0]
    if is_new and len(password) < LENGTH_MIN:
        raise Refused(
            f"a password for money has at least {LENGTH_MIN} characters; a few random "
            "words are easy to remember",
            code="weak_password",
        )
    return password


def _read_descriptor(descriptor: int) -> str:
    from sublet.base.errors import Refused

    try:
        return os.read(descriptor, _BYTES_MAX).decode()
    except (OSError, UnicodeDecodeError):
        raise Refused(
            f"--password-fd: descriptor {descriptor} gives no text; open it, such as "
            "with 3< <(pass show sublet)",
            code="no_password",
        ) from None


def _ask(what: str, *, is_new: bool) -> str:
    from getpass import getpass

    from sublet.base.errors import Refused

    try:
        password = getpass(f"Password of {what}: ")
        again = getpass("The same once more: ") if is_new else password
    except KeyboardInterrupt:
        sys.stderr.write("\n")  # leave the line of the question
        raise
    if again != password:
        raise Refused("the two passwords differ; try again", code="password_mismatch")
    return password

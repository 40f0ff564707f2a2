"""``sublet key``: cold keys, in encrypted files beside the hot one.

The hot key (``HOME/key``) signs orders and vouchers all day. A cold key owns money: it
puts some into channels and takes it back, and lies encrypted in ``HOME/keystore``.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.cli.option import HOME, HomeOption, JsonOption
from sublet.cli.password import PasswordFdOption, PasswordFileOption, read_password

if TYPE_CHECKING:
    from sublet.wire.signature import Key

app = typer.Typer(
    help="Keep cold keys in encrypted files; list the keys that you have.\n\n"
    "The hot key in --home signs orders and vouchers, without being asked.\n\n"
    "A cold key owns money, and opens only with its password.",
    no_args_is_help=True,
)

_NAME = r"[a-z0-9][a-z0-9-]{0,31}"

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Yours for the key: a-z, 0-9 and -.")
]


@app.command()
def new(
    name: NameArgument,
    home: HomeOption = HOME,
    password_file: PasswordFileOption = None,
    password_fd: PasswordFdOption = None,
) -> None:
    """Draw a cold key and keep it encrypted; its address goes to stdout.

    \b
    Examples:
      sublet key new savings
      sublet key new savings --password-file ~/.savings-password
    """
    import secrets

    from sublet.wire.signature import Key

    place = _find_place(home, name)
    _check_free(place)
    password = read_password(password_file, password_fd, what=name, is_new=True)
    _keep(Key.generate(secrets.token_bytes(32)), place, password)


@app.command("import")
def import_key(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A key file of another wallet (Web3 Secret Storage, version 3), or a "
            "file with 64 hex digits; - for stdin.",
        ),
    ],
    home: HomeOption = HOME,
    password_file: PasswordFileOption = None,
    password_fd: PasswordFdOption = None,
) -> None:
    """Take a key over from another wallet, and keep it encrypted.

    A key file keeps its password. Bare digits get a new one; delete their file then.
    """
    from sublet.adapter.keystore import decrypt
    from sublet.wire.signature import Key

    place = _find_place(home, name)
    _check_free(place)
    text = _read_source(file)
    is_keystore = text.lstrip().startswith("{")
    password = read_password(
        password_file, password_fd, what=name, is_new=not is_keystore
    )
    key = decrypt(text, password) if is_keystore else Key.from_hex(text.strip())
    _keep(key, place, password)


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="It must not exist yet.")
    ],
    home: HomeOption = HOME,
    password_file: PasswordFileOption = None,
    password_fd: PasswordFdOption = None,
) -> None:
    """Write the hot key into FILE, encrypted: a copy, or for another wallet.

    The files of cold keys, in HOME/keystore, are of the same kind: copy them as they
    are. A key is never shown in the open.
    """
    from sublet.adapter.home_folder import Home
    from sublet.adapter.key_file import load_key

    _check_free(file.expanduser())
    key = load_key(Home(home.expanduser()).key_path)
    password = read_password(password_file, password_fd, what=str(file), is_new=True)
    _keep(key, file.expanduser(), password)


@app.command("list")
def list_keys(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """List the hot key and the cold ones, by their addresses; no password is needed."""
    from sublet.adapter.home_folder import Home
    from sublet.adapter.key_file import load_key
    from sublet.adapter.keystore import load_keystore, read_address

    rows = []
    hot = Home(home.expanduser()).key_path
    if hot.exists():
        rows.append({"name": "", "kind": "hot", "address": load_key(hot).address})
    for place in sorted(_folder(home).glob("*.json")):
        address = read_address(load_keystore(place))
        rows.append({"name": place.stem, "kind": "cold", "address": address or ""})
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        typer.echo(f"{row['kind']:4}  {row['address']:42}  {row['name']}".rstrip())
    if not rows:
        typer.echo("There is no key yet. Make one: sublet key new NAME", err=True)


def _folder(home: Path) -> Path:
    return home.expanduser() / "keystore"


def _find_place(home: Path, name: str) -> Path:
    import re

    from sublet.base.errors import Refused

    if not re.fullmatch(_NAME, name):
        raise Refused(
            f"{name[:40]!r} is no name for a key; take up to 32 of a-z, 0-9 and -",
            code="bad_key_name",
        )
    return _folder(home) / f"{name}.json"


def _check_free(place: Path) -> None:
    """Say so before a password was typed twice; the disk has the last word."""
    from sublet.base.errors import Refused

    if place.exists():
        raise Refused(
            f"there is a key at {place} already; it is not overwritten",
            code="key_exists",
        )


def _read_source(file: Path) -> str:
    from sublet.adapter.keystore import FILE_BYTES_MAX
    from sublet.base.errors import Refused

    try:
        if str(file) == "-":
            return sys.stdin.read(FILE_BYTES_MAX + 1)
        with file.expanduser().open(encoding="ascii") as source:
            return source.read(FILE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError):
        # Without the cause: nothing of the file may reach a traceback.
        raise Refused(
            f"{file} cannot be read as a key; name a file of another wallet, or -",
            code="no_key",
        ) from None


def _keep(key: "Key", place: Path, password: str) -> None:
    from sublet.adapter.keystore import create_keystore, encrypt

    create_keystore(place, encrypt(key, password))
    typer.echo(key.address)
    typer.echo(
        f"sublet: kept in {place}; without its password nobody opens it, you neither",
        err=True,
    )

"""The SSH host key of a provider: made once, private, pinned by every offer."""

import os
from pathlib import Path

import asyncssh

from sublet.base.errors import Refused

HOST_KEY_FILE = "ssh_host_key"


def create_host_key(home: Path) -> asyncssh.SSHKey:
    """Draw an Ed25519 key and keep it; one that is there is kept.

    Raises:
        Refused: the one that is there cannot be read.
    """
    path = home / HOST_KEY_FILE
    if path.exists():
        return load_host_key(home)
    key = asyncssh.generate_private_key("ssh-ed25519")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key.export_private_key())
        file.flush()
        os.fsync(file.fileno())
    return key


def load_host_key(home: Path) -> asyncssh.SSHKey:
    """Read the host key.

    Raises:
        Refused: there is none, others may read it, or it is damaged. Nothing of it is
            shown.
    """
    path = home / HOST_KEY_FILE
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(
                f"{path} may be read by others; run: chmod 600 {path}",
                code="loose_key",
            )
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError, ValueError):
        raise Refused(
            f"{path} is no key; make a new provider with: sublet provider init",
            code="bad_host_key",
        ) from None


def public_line(key: asyncssh.SSHKey) -> str:
    """Give the public half as one OpenSSH line, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2])

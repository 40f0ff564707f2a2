"""What OpenSSH is told so that ``ssh``, ``scp``, ``rsync`` and editors reach a job.

Pure: from running jobs to the text of two files, ``config`` and ``known_hosts``. Each
job is a host. Its bytes come through ``sublet ssh --stdio``; its key is the one of
this job and no other; the only host key that is believed is the one of the lease.
"""

import re
import shlex
from collections.abc import Iterable, Sequence

import asyncssh
from msgspec import Struct

from sublet.base.errors import PeerFault, Refused
from sublet.core.job.record import JobRecord
from sublet.core.lease.phase import Lease

_ALIAS_HEX = 32  # digits of a lease's id: as many as nobody hits twice
_UNQUOTABLE = re.compile(r'["\n\r\0]')
_TEMPLATE = """Host {host}
    # {what}
    HostName {alias}
    HostKeyAlias {alias}
    User {user}
    ProxyCommand {proxy}
    IdentityFile {key}
    IdentitiesOnly yes
    IdentityAgent none
    ForwardAgent no
    ForwardX11 no
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PreferredAuthentications publickey
    ServerAliveInterval 15
"""


class Host(Struct, frozen=True):
    """One running job, as OpenSSH is to see it."""

    name: str  # what is typed after ``ssh``
    record: JobRecord
    lease: Lease
    key_path: str


def name_host(record: JobRecord) -> str:
    """Give the name to type: the job's own, or the id of one that has none."""
    return f"sublet-{record.name or record.id}"


def write_config(
    hosts: Iterable[Host],
    *,
    known_hosts: str,
    command: Sequence[str],
    options: Sequence[str],
) -> str:
    """Write the fragment for ``Include``.

    Args:
        hosts: the jobs.
        known_hosts: path of the other file.
        command: how ``sublet`` is called.
        options: of ``sublet ssh``: which home, which market.
    """
    head = (
        "# Written by: sublet ssh --config. Each line is gone when it is run again.\n"
    )
    return head + "".join(
        _TEMPLATE.format(
            host=host.name,
            what=f"job {host.record.id}, lease {host.lease.id[:18]}…",
            alias=_alias(host.lease),
            user=host.lease.id[2:],
            proxy=_escape(
                shlex.join((*command, "ssh", *options, "--stdio", host.record.id))
            ),
            key=_quote(host.key_path),
            known_hosts=_quote(known_hosts),
        )
        for host in hosts
    )


def write_known_hosts(hosts: Iterable[Host]) -> str:
    """Write the host keys that are believed, one line for each lease.

    Raises:
        PeerFault: a lease names no key. Nothing of it may get into this file, where a
            line break would be a key for another host.
    """
    return "".join(f"{_alias(host.lease)} {_read_key(host.lease)}\n" for host in hosts)


def _read_key(lease: Lease) -> str:
    try:
        key = asyncssh.import_public_key(lease.ssh_host_key)
    except (asyncssh.KeyImportError, ValueError) as exc:
        raise PeerFault(
            "the lease names no usable host key", code="bad_host_key"
        ) from exc
    return " ".join(key.export_public_key().decode().split()[:2])


def _alias(lease: Lease) -> str:
    return f"sublet-lease-{lease.id[2 : 2 + _ALIAS_HEX]}"


def _quote(path: str) -> str:
    """Quote a path for ssh_config(5)."""
    if _UNQUOTABLE.search(path):
        raise Refused(
            f"ssh cannot be told of the path {path!r}; choose a plainer SUBLET_HOME",
            code="bad_path",
            field="--home",
        )
    return f'"{_escape(path)}"'


def _escape(text: str) -> str:
    return text.replace("%", "%%")  # else the beginning of a token

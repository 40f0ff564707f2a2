"""What OpenSSH is told: every value is somebody else's, and none becomes an option."""

import asyncssh
import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused
from sublet.core.job.record import JobRecord
from sublet.core.lease.phase import Lease
from sublet.workload.ssh_config import (
    Host,
    name_host,
    write_config,
    write_known_hosts,
)
from tests.unit.provider.lease_maker import make_lease

KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def _host(*, name: str = "lab", key: str = KEY, path: str = "/h/ssh_key") -> Host:
    lease: Lease = replace(make_lease(), ssh_host_key=key)
    record = JobRecord(
        id="0123456789ab",
        name=name,
        command="x",
        market="http://127.0.0.1:1",
        tenant=lease.tenant,
        created_at_ms=0,
        pid=1,
        job=None,  # type: ignore[arg-type]  # not looked at here
    )
    return Host(name_host(record), record, lease, path)


def _write(*hosts: Host, known_hosts: str = "/h/ssh/known hosts") -> str:
    return write_config(
        hosts,
        known_hosts=known_hosts,
        command=("/a b/python", "-m", "sublet"),
        options=("--home", "/h/100%"),
    )


def test_names_jobs_as_people_do() -> None:
    assert _host().name == "sublet-lab"
    assert _host(name="").name == "sublet-0123456789ab"


def test_pins_keys_and_quotes_paths() -> None:
    host = _host()
    text = _write(host)
    assert f"    User {host.lease.id[2:]}\n" in text
    assert '    UserKnownHostsFile "/h/ssh/known hosts"\n' in text
    assert (
        "    ProxyCommand '/a b/python' -m sublet ssh --home /h/100%% --stdio "
        "0123456789ab\n" in text
    )
    assert "StrictHostKeyChecking yes" in text
    alias, kind, key = write_known_hosts([host]).split()
    assert f"HostKeyAlias {alias}\n" in text
    assert f"{kind} {key}" == " ".join(KEY.split()[:2])


def test_comment_of_a_key_is_dropped() -> None:
    (line,) = write_known_hosts([_host(key=KEY + " evil comment")]).splitlines()
    assert "evil" not in line


@pytest.mark.parametrize("key", ["", "nonsense", "ssh-ed25519 AAAA", "@revoked *"])
def test_refuses_a_key_that_is_none(key: str) -> None:
    with pytest.raises(PeerFault):
        write_known_hosts([_host(key=key)])


@pytest.mark.parametrize("path", ['/h/"x', "/h/\nProxyCommand x"])
def test_refuses_paths_that_break_out(path: str) -> None:
    with pytest.raises(Refused):
        _write(_host(path=path))

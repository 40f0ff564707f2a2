"""The data plane's server: SSH, pinned to one lease, with nothing that is not listed.

The user is the lease's id, the only key admitted is the one in its order, the host key
is the one in the offer. Commands run in a sandbox beside the job; forwarded are ports
of the job alone. No agent, no X11, no passwords, no listening, no other subsystem than
SFTP. Each connection and each lease has a bounded number of channels.

Not here: where connections come from (``data_plane``), what channels carry.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import Any, cast

import asyncssh

from sublet.provider.job_session import serve_job
from sublet.provider.journal import Journal
from sublet.provider.lease_files import LeaseFiles
from sublet.provider.log_stream import follow
from sublet.provider.port_forward import PortForwards
from sublet.provider.runner import LeaseRunner
from sublet.provider.shell import serve_shell, shell_command

LOGIN_S = 15
KEEPALIVE_S = 15  # a tenant that answers none of three is gone
CHANNELS_MAX = 16  # of one connection
LEASE_ID_LENGTH = 64  # hex digits: the user's name
OFFSET_DIGITS_MAX = 15
# Each packet costs its turn through Python, whatever its size: few and large ones.
# What a tenant may send unread stays asyncssh's 2 MiB a channel.
PACKET_BYTES_MAX = 255 * 1024  # OpenSSH takes no packet of more than 256 KiB

# What whoever holds the key of a sealed job's lease may ask for.
_STREAMS = ("stdout", "stderr")
_SEALED_COMMANDS = (["sublet", "job"], ["sublet", "logs"])

Process = asyncssh.SSHServerProcess[bytes]
FindRunner = Callable[[str], Awaitable[LeaseRunner | None]]


class LeaseServer(asyncssh.SSHServer):
    """One connection: first nobody, then the tenant of one lease."""

    def __init__(self, find: FindRunner, journal: Journal) -> None:
        """Take where leases are found by the tenant's word."""
        self._find = find
        self._journal = journal
        self._runner: LeaseRunner | None = None
        self._connection: asyncssh.SSHServerConnection | None = None
        self._channels = 0
        self._forwards = PortForwards()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Keep the connection."""
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:
        """Look the lease up; that it exists is not told."""
        if len(username) == LEASE_ID_LENGTH:
            self._runner = await self._find("0x" + username)
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the only way in."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Admit the order's key and no other."""
        if self._runner is None:
            return False
        try:
            expected = asyncssh.import_public_key(self._runner.record.lease.ssh_key)
        except asyncssh.KeyImportError:
            return False
        return key.public_data == expected.public_data

    def session_requested(self) -> Any:
        """Open a channel, if there are not too many."""
        if self._connection is None or self._channels >= CHANNELS_MAX:
            return False
        self._channels += 1
        return asyncssh.SSHServerProcess(self._serve, self._open_files, 3, False)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        """Connect to a port of the job, as ``ssh -L`` asks."""
        desk = self._get_runner().desk
        if desk.is_sealed or not desk.delivered.is_set():
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "this job is sealed"
            )
        return self._forwards.open(desk, host=dest_host, port=dest_port)

    def _open_files(self, channel: "asyncssh.channel.SSHChannel[bytes]") -> LeaseFiles:
        runner = self._get_runner()
        return LeaseFiles(
            cast("asyncssh.SSHServerChannel[bytes]", channel),
            runner.desk,
            runner.reception,
            self._release,
        )

    def _release(self) -> None:
        self._channels -= 1

    def _get_runner(self) -> LeaseRunner:
        if self._runner is None:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "no lease"
            )
        return self._runner

    async def _serve(self, process: Process) -> None:
        try:
            await self._serve_command(process)
        except asyncssh.Error:
            pass  # the tenant has gone
        except OSError as fault:  # so has he, or a disk of ours did not answer
            self._journal.warn("channel_failed", error=str(fault.strerror))
            process.exit(1)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001
            # The face's outermost loop: logged; this channel ends, the lease goes on.
            self._journal.error("channel_broke")
            process.exit(1)
        finally:
            self._release()

    async def _serve_command(self, process: Process) -> None:
        runner = self._get_runner()
        if process.subsystem:
            process.exit(127)
            return
        command = process.command or "sublet shell"
        words = _read_words(command)
        if runner.desk.is_sealed and words[:2] not in _SEALED_COMMANDS:
            process.stderr.write(b"sublet: this job is sealed\n")
            process.exit(126)
            return
        if words[:1] != ["sublet"]:
            await serve_shell(process, runner.desk, shell_command(command))
        elif words[:2] == ["sublet", "job"] and len(words) == 2:
            await serve_job(process, runner.reception, self._journal)
        elif words[:2] == ["sublet", "logs"]:
            await _serve_log(process, runner, words[2:])
        elif words[:2] == ["sublet", "shell"] and len(words) == 2:
            await serve_shell(process, runner.desk, ())
        elif words[:2] == ["sublet", "exec"] and len(words) > 2:
            await serve_shell(process, runner.desk, words[2:])
        else:
            process.stderr.write(b"sublet: no such command here\n")
            process.exit(127)


async def _serve_log(process: Process, runner: LeaseRunner, words: list[str]) -> None:
    is_plain = len(words) == 2 and words[0] in _STREAMS and words[1].isascii()
    if not is_plain or not words[1].isdigit() or len(words[1]) > OFFSET_DIGITS_MAX:
        process.stderr.write(b"sublet: logs stdout|stderr OFFSET\n")
        process.exit(2)
        return
    folder = runner.desk.folder
    streams = {"stdout": folder.stdout, "stderr": folder.stderr}
    await runner.desk.delivered.wait()  # before that nobody knows whether it is sealed
    if runner.desk.is_sealed:
        streams = {"stdout": folder.sealed_stdout, "stderr": folder.sealed_stderr}
    pieces = follow(
        streams[words[0]],
        offset=int(words[1]),
        ended=runner.desk.logs_ended,
        may_hang=bool(runner.record.scratch),
    )
    async for content in pieces:
        process.stdout.write(content)
        await process.stdout.drain()
    process.exit(0)


def _read_words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def server_options(
    find: FindRunner, *, host_key: asyncssh.SSHKey, journal: Journal
) -> dict[str, Any]:
    """Give the options of ``asyncssh.run_server`` and ``asyncssh.listen``."""
    return {
        "server_factory": lambda: LeaseServer(find, journal),
        "server_host_keys": [host_key],
        "server_version": "Sublet",
        "config": None,
        "encoding": None,
        "line_editor": False,
        "gss_host": None,
        "host_based_auth": False,
        "password_auth": False,
        "kbdint_auth": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "allow_scp": False,
        "compression_algs": None,
        "max_pktsize": PACKET_BYTES_MAX,
        "kex_algs": ["curve25519-sha256"],
        "encryption_algs": [
            "aes128-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
        ],
        "login_timeout": LOGIN_S,
        "keepalive_interval": KEEPALIVE_S,
    }

"""Two PostgreSQL servers for tests: a primary, and its synchronous standby."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.postgres_server import Server, private_folder


class Pair:
    """A primary and its standby; either may be killed. Use ``running_pair``."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.servers: list[Server] = []
        self.primary = self._add()
        self.primary.create("max_wal_senders = 4")
        self.primary.start()
        self.standby = self._add()
        self.follow()
        self.primary.execute("CREATE DATABASE sublet")

    def _add(self) -> Server:
        server = Server(self._stack.enter_context(private_folder()))
        self._stack.callback(server.kill)
        self.servers.append(server)
        return server

    @property
    def url(self) -> str:
        """Name every server that there will be, as an operator does."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers)
        return f"postgresql://postgres@{hosts}/sublet?target_session_attrs=read-write"

    def follow(self) -> None:
        """Let the standby copy the primary; from now on no commit goes without it."""
        self.standby.call(
            "pg_basebackup",
            *("-D", self.standby.data, "-R", "-c", "fast", "-X", "stream"),
            *("-d", self.primary.url("postgres")),
        )
        self.standby.configure("synchronous_standby_names = ''")
        self.standby.start()
        self.demand("*")

    def demand(self, names: str) -> None:
        """Say for which standbys a commit waits."""
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.primary.execute("SELECT pg_reload_conf()")

    def fail_over(self) -> None:
        """Lose the primary for good; the standby takes its place."""
        self.primary.kill()
        self.standby.call("pg_ctl", "promote", "-D", self.standby.data)
        self.primary, self.standby = self.standby, self.primary
        self.demand("")  # there is none; the setting may have been copied

    def renew(self) -> None:
        """Make a new standby where the lost primary was."""
        self.standby.wipe()
        self.follow()


@contextmanager
def running_pair() -> Iterator[Pair]:
    """Lend a primary with a synchronous standby; its database is called sublet."""
    with ExitStack() as stack:
        yield Pair(stack)

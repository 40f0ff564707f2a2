"""How fast do files reach a job and come back, beside scp and rsync?

A real node, a real provider in its own process, a job in its sandbox. *in*: from the
manifest's delivery over a new lease's SSH connection until the job runs with its files
laid out, each chunk checked. *out*: from the receipt until every output is checked,
kept and laid out here. Once straight to the provider's port, once over the node's
relay; beside them ``scp`` and ``rsync -e ssh`` to a plain OpenSSH server on the same
loopback and the same disk, in turn.

SIZE_MB and FILES (environment) run less; ROUNDS says how often.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.rig.frame import close, median, scratch, show
from benchmarks.rig.sshd import Sshd, find_port, running_sshd
from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.tree_folder import read_tree
from sublet.adapter.tree_writing import write_tree
from sublet.base.errors import SubletError
from sublet.cli.local_market import (
    LocalMarket,
    end_jobs,
    read_ready,
    run,
    start,
    stop,
    wait_offers,
)
from sublet.core.lease.phase import Lease
from sublet.sdk.job_channel import JobChannel, find_direct
from sublet.wire.message import (
    Close,
    Deliver,
    Ended,
    Manifest,
    Missing,
    Progress,
    Tree,
    Trouble,
    Uploaded,
)
from sublet.workload.client import AsyncClient
from tests.integration.provider_house import GIB, RawTenant, make_manifest

SIZE_MB = int(os.environ.get("SIZE_MB", "1000"))
FILES = int(os.environ.get("FILES", "10000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
FILE_BYTES_MAX = 8_000  # of a small one
HEAR_S = 600
ROUTES = ("direct", "relayed")
GCM = ("-o", "Ciphers=aes128-gcm@openssh.com")

T = TypeVar("T")
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Load:
    """A folder of inputs, in chunks."""

    name: str
    folder: Path
    tree: Tree
    blobs: FolderBlobs
    size: int


class Carrier:
    """The tenant's side: carries a load in and out, and takes the time."""

    def __init__(self, client: AsyncClient, folder: Path, pids: dict[str, int]) -> None:
        """Take the tenant, where outputs go, and whose CPU time is noted."""
        self.times: Times = defaultdict(list)
        self.cpu: Times = defaultdict(list)
        self._tenant = RawTenant(client)
        self._folder = folder
        self._pids = pids

    async def carry(self, load: Load, route: str) -> None:
        """Run a job that gives its inputs back."""
        manifest = make_manifest(
            "true",
            inputs=load.tree,
            outputs=("load",),
            memory_bytes=GIB // 2,
            disk_bytes=max(GIB, 3 * load.size),
        )
        lease = await self._tenant.rent(manifest)
        async with self._dial(lease, route) as channel:
            before = self._read_cpu()
            with self._timed(f"{load.name} {route} in"):
                await self._deliver(channel, manifest, load)
            ended = await _hear(channel, Ended)
            with self._timed(f"{load.name} {route} out"):
                await self._take_home(channel, ended.outputs)
            for name, seconds in self._read_cpu().items():
                self.cpu[f"{load.name} {route} {name}"].append(seconds - before[name])
            await self._tenant.pay(channel, lease, ended.channel_total)
            await channel.say(Close(reason="done"))

    async def _deliver(
        self, channel: JobChannel, manifest: Manifest, load: Load
    ) -> None:
        await channel.open_job()
        await channel.say(Deliver(manifest=manifest, order=self._tenant.order))
        missing = await _hear(channel, Missing)
        await channel.put_chunks(missing.chunks, blobs=load.blobs)
        await channel.say(Uploaded())
        while (await _hear(channel, Progress)).phase != "running":
            pass

    async def _take_home(self, channel: JobChannel, tree: Tree) -> None:
        blobs = FolderBlobs(self._folder / "blobs")
        keys = [key for file in tree.files for key in file.chunks]
        await channel.get_chunks(keys, blobs=blobs)
        place = self._folder / "home"
        await asyncio.to_thread(write_tree, tree, place, blobs=blobs)

    def check(self, load: Load) -> None:
        """Compare what came home with what was sent, and clear the place."""
        argv: list[str | Path] = [
            "diff",
            "-rq",
            load.folder,
            self._folder / "home" / "load",
        ]
        if subprocess.run(argv, check=False).returncode:
            raise SystemExit(f"{load.name}: what came home is not what was sent")
        for name in ("home", "blobs"):
            shutil.rmtree(self._folder / name)

    @asynccontextmanager
    async def _dial(self, lease: Lease, route: str) -> AsyncIterator[JobChannel]:
        if route == "relayed":
            async with self._tenant.dial(lease) as channel:
                yield channel
            return
        sock = await find_direct(lease.endpoint)
        if sock is None:
            raise SystemExit(f"nobody answers at {lease.endpoint!r}")
        channel = await JobChannel.connect(sock, lease=lease, key=self._tenant.key)
        try:
            yield channel
        finally:
            await channel.close()

    def _timed(self, name: str) -> "_Timer":
        return _Timer(self.times[name])

    def _read_cpu(self) -> dict[str, float]:
        ticks = os.sysconf("SC_CLK_TCK")
        spent = {"tenant": time.process_time()}
        for name, pid in self._pids.items():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent[name] = (int(fields[11]) + int(fields[12])) / ticks
        return spent


class _Timer:
    """Notes how long a context lasted, in seconds."""

    def __init__(self, times: list[float]) -> None:
        self._times = times

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._times.append(time.perf_counter() - self._start)


async def _hear(channel: JobChannel, kind: type[T]) -> T:
    async with asyncio.timeout(HEAR_S):
        while not isinstance(message := await channel.hear(), kind):
            if isinstance(message, Trouble | Ended):
                raise SystemExit(f"the provider says: {message}")
        return message


def make_loads(folder: Path) -> list[Load]:
    """Write one large file, and many small ones; nothing in them can be compressed."""
    large, small = folder / "large" / "load", folder / "small" / "load"
    for place in (large, small):
        place.mkdir(parents=True)
    with (large / "file").open("wb") as file:
        for _ in range(SIZE_MB):
            file.write(os.urandom(1_000_000))
    for number in range(FILES):
        below = small / f"{number // 100:03}"
        below.mkdir(exist_ok=True)
        size = int.from_bytes(os.urandom(2), "big") % FILE_BYTES_MAX
        (below / f"{number:05}").write_bytes(os.urandom(size))
    loads = []
    for place in (large, small):
        blobs = FolderBlobs(place.parent / "blobs", is_durable=False)
        tree = read_tree(place.parent, blobs=blobs, include=("load",))
        size = sum(file.size for file in tree.files)
        loads.append(Load(place.parent.name, place, tree, blobs, size))
    return loads


def copy_plainly(sshd: Sshd, load: Load, folder: Path, times: Times) -> None:
    """Copy a load away and back by the usual tools."""
    folder.mkdir()
    away, home = folder / "away", folder / "home"
    if load.name == "small":
        with _Timer(times["small rsync in"]):
            sshd.rsync(f"{load.folder}/", f"127.0.0.1:{away}")
        with _Timer(times["small rsync out"]):
            sshd.rsync(f"127.0.0.1:{away}/", home)
    else:
        for name, flags in (("scp", ()), ("scp_gcm", GCM)):
            with _Timer(times[f"large {name} in"]):
                sshd.scp(load.folder / "file", f"127.0.0.1:{away}", *flags)
            with _Timer(times[f"large {name} out"]):
                sshd.scp(f"127.0.0.1:{away}", home, *flags)
    shutil.rmtree(folder)


async def measure(folder: Path, market: LocalMarket, sshd: Sshd) -> Carrier:
    """Carry every load by every way, in turn."""
    loads = make_loads(folder)
    home = folder / "provider"
    port = find_port()
    place = f"127.0.0.1:{port}"
    run(
        "provider", "init", "--home", home, "--market", market.url, "--name", "box",
        "--cpu-price", "0.010",
    )  # fmt: skip
    provider = start("provider", home, "--listen", place, "--endpoint", place)
    try:
        read_ready(provider)
        await wait_offers(market.tenant_home, market.url, count=1)
        node = market.node.process.pid if market.node else 0
        pids = {"provider": provider.process.pid, "node": node}
        async with AsyncClient(market.url, home=market.tenant_home) as client:
            await client.pin()
            carrier = Carrier(client, folder, pids)
            for _ in range(ROUNDS):
                for load in loads:
                    copy_plainly(sshd, load, folder / "plain", carrier.times)
                    for route in ROUTES:
                        await carrier.carry(load, route)
                        carrier.check(load)
        for load in loads:
            show_load(load, carrier)
        return carrier
    except SubletError as fault:
        raise SystemExit(fault.message) from fault
    finally:
        stop([provider], 15, 9)
        end_jobs(home)


def show_load(load: Load, carrier: Carrier) -> None:
    """Show the table of one load."""
    rows = []
    ways = [name.split()[1] for name in carrier.times if name.startswith(load.name)]
    for way in dict.fromkeys(ways):
        into, back = (median(carrier.times[f"{load.name} {way} {d}"]) for d in IN_OUT)
        spent = [
            f"{median(found) * 1_000 / (2 * load.size / 1e6):.2f}"
            if (found := carrier.cpu.get(f"{load.name} {way} {name}"))
            else ""
            for name in ("tenant", "provider", "node")
        ]
        speed = [f"{load.size / 1e6 / seconds:.1f}" for seconds in (into, back)]
        rows.append((way, f"{into:.2f}", f"{back:.2f}", *speed, *spent))
    show(
        f"{load.name}: {len(load.tree.files)} files, {load.size / 1e6:.0f} MB; "
        f"medians of {ROUNDS}",
        ["", "in s", "out s", "in MB/s", "out MB/s", "CPU ms/MB: tenant", "provider",
         "node"],
        rows,
    )  # fmt: skip


IN_OUT = ("in", "out")


def main() -> None:
    """Measure, and show it."""
    with scratch() as name:
        folder = Path(name)
        market = LocalMarket(
            folder / "market", providers=0, tenant_home=folder / "tenant",
            listen="127.0.0.1:0", say=lambda line: None,
        )  # fmt: skip
        with running_sshd(folder / "sshd") as sshd, market:
            carrier = asyncio.run(measure(folder, market, sshd))
    taken = {name: median(seconds) for name, seconds in carrier.times.items()}

    def ratio(load: str, usual: str, way: str, direction: str) -> float:
        return taken[f"{load} {usual} {direction}"] / taken[f"{load} {way} {direction}"]

    close(
        "data_plane",
        direct_vs_scp=ratio("large", "scp", "direct", "in"),
        relayed_vs_scp=ratio("large", "scp", "relayed", "in"),
        direct_out_vs_scp=ratio("large", "scp", "direct", "out"),
        relayed_out_vs_scp=ratio("large", "scp", "relayed", "out"),
        direct_vs_scp_gcm=ratio("large", "scp_gcm", "direct", "in"),
        small_vs_rsync=ratio("small", "rsync", "direct", "in"),
        small_relayed_vs_rsync=ratio("small", "rsync", "relayed", "in"),
        direct_mb_s=SIZE_MB / taken["large direct in"],
        relayed_mb_s=SIZE_MB / taken["large relayed in"],
        scp_mb_s=SIZE_MB / taken["large scp in"],
    )


if __name__ == "__main__":
    main()

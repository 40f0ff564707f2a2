"""``make demo``: a real job on three providers' machines, one of which dies.

Starts the programs that anybody would run, each as a process of its own: a node, three
providers, and ``sublet run`` on ``train.py``. Once a checkpoint is safe with the
tenant, the provider that runs the job is killed, with everything it started. The job
goes on elsewhere. Then it shows the result, who ran which seconds, who is paid what,
and what an audit of the market's log says; and it checks each of these.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sublet.base.units import compute_owed, format_money
from sublet.cli.local_market import (
    SUBLET,
    LocalMarket,
    Program,
    interrupt_once,
    job_folders,
    run,
)
from sublet.console.picture import Picture
from sublet.console.screen import catch_up
from sublet.console.watch import Watch
from sublet.core.lease.phase import Phase

HERE = Path(__file__).parent
SCRIPT = HERE / "train.py"
PICTURES = Path("demo-output")
PROVIDERS = 3
ACCURACY_MIN = 0.95
EPOCHS, EVERY = "80", "4"  # half a minute of work on one core, a checkpoint a second
CHECKPOINT_S = 420  # until the first one: the packages may have to be downloaded
FINISH_S = 420  # from the kill to the end, on another machine
BAR_WIDTH = 56

console = Console(highlight=False)


class DemoFailed(Exception):
    """Something did not go as promised; the message says what."""


@dataclass
class Story:
    """What happened, as the demo saw it."""

    started: float = field(default_factory=time.time)
    victim: str = ""  # the machine's name
    killed_ms: int = 0  # since the epoch

    def say(self, text: str, style: str = "") -> None:
        """Print a line with the seconds since the start."""
        line = Text(f"{time.time() - self.started:6.1f} s  ", "dim").append(text, style)
        console.print(line, soft_wrap=True)


def main() -> int:
    """Run it all; give the exit code."""
    interrupt_once()
    story = Story()
    folder = Path(tempfile.mkdtemp(prefix="sublet-demo-"))
    try:
        play(story, folder)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped", style="yellow")
        return 130
    except DemoFailed as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def play(story: Story, folder: Path) -> None:
    """Start the market, run the job, kill its machine, show and check the end."""
    tenant_home = folder / "tenant"
    market = LocalMarket(
        folder,
        providers=PROVIDERS,
        tenant_home=tenant_home,
        listen="127.0.0.1:0",
        say=lambda text: story.say(text, "dim"),
    )
    with market:
        watch = Watch(url=market.url)
        with Tenant(market.url, tenant_home, folder / "work", story) as tenant:
            lease_id = wait_secured(watch, tenant, story)
            kill_machine(watch, lease_id, market, story)
            result = tenant.wait_result()
        wait_settled(watch)
        picture = watch.picture(now_s=int(time.time()))
        wallet = json.loads(
            run("wallet", "--json", "--home", tenant_home, "--market", market.url)
        )
        verdict = audit(market.url)
        metrics = show_result(folder / "work", result)
        show_timeline(result, story)
        show_bill(result, picture)
        show_verdict(verdict)
        check(result, metrics, wallet, picture, verdict, story)
    story.say("all of it as promised; everything is stopped and removed", "bold green")


# ---- the tenant -----------------------------------------------------------------------


class Tenant:
    """``sublet run`` in a process group of its own; its notices are shown."""

    def __init__(self, url: str, home: Path, work: Path, story: Story) -> None:
        """Take the market and two folders; entering starts it."""
        self._story = story
        self._work = work
        self._argv = [
            *SUBLET, "run", "--json", "--market", url, "--home", str(home),
            "--checkpoint", "checkpoints", "--output", "out", "--cpus", "1",
            "--memory", "2GiB", "--disk", "4GiB", "--retries", "3", "--name", "digits",
            str(SCRIPT), "--epochs", EPOCHS, "--every", EVERY,
        ]  # fmt: skip

    def __enter__(self) -> "Tenant":
        self._work.mkdir()
        self._story.say(
            f"sublet run --checkpoint checkpoints --output out {SCRIPT.name}"
        )
        self._process = subprocess.Popen(
            self._argv,
            cwd=self._work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "SUBLET_NO_WARM": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def check_runs(self) -> None:
        """Make sure that it has not ended.

        Raises:
            DemoFailed: it has.
        """
        if self._process.poll() is not None:
            raise DemoFailed(f"sublet run ended early, with {self._process.returncode}")

    def wait_result(self) -> Any:
        """Wait for the end; give the JSON that it prints.

        Raises:
            DemoFailed: it took too long, or the job failed.
        """
        try:
            code = self._process.wait(FINISH_S)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the job did not end within {FINISH_S} s") from None
        if code:
            raise DemoFailed(f"the job ended with exit code {code}")
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.read())

    def _read(self) -> None:
        assert self._process.stderr is not None
        last = ""
        for line in self._process.stderr:
            if line != last:  # while it waits it says so again and again
                self._story.say(f"  {line.rstrip()}", "cyan")
            last = line


# ---- what happens ---------------------------------------------------------------------


def wait_secured(watch: Watch, tenant: Tenant, story: Story) -> str:
    """Wait until the job runs and the tenant holds a checkpoint; give the lease.

    Raises:
        DemoFailed: that takes too long.
    """
    deadline = time.monotonic() + CHECKPOINT_S
    while time.monotonic() < deadline:
        tenant.check_runs()
        catch_up(watch)
        for lease in watch.book.leases.values():
            if lease.phase is Phase.RUNNING and lease.secured_ms:
                story.say("a checkpoint is in the tenant's hands", "green")
                return lease.id
        time.sleep(0.2)
    raise DemoFailed(f"no checkpoint within {CHECKPOINT_S} s")


def kill_machine(
    watch: Watch, lease_id: str, market: LocalMarket, story: Story
) -> None:
    """Kill the provider that holds a lease: agent, wardens and jobs, without a word."""
    story.victim = watch.book.leases[lease_id].machine
    victim = next(one for one in market.providers if one.name == story.victim)
    victim.signal_group(signal.SIGKILL)
    for pid in wardens_of(victim):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # its sandbox dies with it
    story.killed_ms = int(time.time() * 1_000)
    story.say(f"SIGKILL to all of {story.victim}: this machine is gone", "bold red")


def wardens_of(provider: Program) -> list[int]:
    """Find the processes that guard the jobs of a provider."""
    found = []
    for folder in job_folders(provider.home):
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((folder / "state.json").read_text())
            if state["phase"] != "ended":
                found.append(int(state["pid"]))
    return found


def wait_settled(watch: Watch) -> None:
    """Wait until no lease is open any more.

    Raises:
        DemoFailed: that takes too long.
    """
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        catch_up(watch)
        if not watch.book.leases:
            return
        time.sleep(0.2)
    raise DemoFailed("a lease is still open 90 s after the job's end")


def audit(url: str) -> Any:
    """Let ``sublet audit verify`` recompute the whole log; give its verdict."""
    done = subprocess.run(
        [*SUBLET, "audit", "verify", "--json", "--market", url],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.strip():
        raise DemoFailed(f"the audit gave no verdict: {done.stderr.strip()}")
    return json.loads(done.stdout)


# ---- what is shown --------------------------------------------------------------------


def show_result(work: Path, result: Any) -> Any:
    """Show what the job made; copy its picture to where it stays."""
    metrics = json.loads((work / "out/metrics.json").read_text())
    PICTURES.mkdir(exist_ok=True)
    shutil.copy(work / "out/confusion.png", PICTURES / "confusion.png")
    shutil.copy(work / "out/metrics.json", PICTURES / "metrics.json")
    console.rule("the result", align="left")
    console.print(
        f"{metrics['accuracy']:.2%} of {metrics['held_back']} held-back digits read "
        f"correctly, after {metrics['epochs']} epochs; the second machine went on "
        f"after epoch {metrics['resumed_after_epoch']}."
    )
    console.print(f"The picture: {PICTURES / 'confusion.png'}")
    console.print(
        f"exit code {result['exit_code']}, {len(result['attempts'])} attempts"
    )
    return metrics


def show_timeline(result: Any, story: Story) -> None:
    """Draw who ran which seconds: waiting, secured, lost."""
    console.rule("who ran which seconds", align="left")
    first = min(one["from_ms"] for one in result["attempts"])
    last = max(one["to_ms"] for one in result["attempts"])
    scale = BAR_WIDTH / max(1, last - first)
    for one in result["attempts"]:
        started = one["started_ms"] or one["to_ms"]
        is_killed = one["machine"] == story.victim and one["outcome"] != "exited"
        end = story.killed_ms if is_killed else one["to_ms"]
        kept = started + (one["secured_ms"] if is_killed else one["ran_ms"])
        bar = Text(" " * round((one["from_ms"] - first) * scale))
        bar.append("░" * round((started - one["from_ms"]) * scale), "dim")
        bar.append("█" * max(1, round((kept - started) * scale)), "green")
        if is_killed:
            bar.append("▒" * round((end - kept) * scale), "red").append("✗", "bold red")
        name = Text(f"{one['machine']:<12}")
        what = f"{(kept - started) / 1_000:.1f} s kept"
        if is_killed:
            what += f", {max(0, end - kept) / 1_000:.1f} s lost with the machine"
        console.print(name + bar)
        console.print(Text(f"{'':<12}{what}", "dim"))
    console.print(
        "░ getting ready, unpaid   █ work that counts   ▒ lost, unpaid", style="dim"
    )


def show_bill(result: Any, picture: Picture) -> None:
    """List what each provider is paid."""
    console.rule("the bill", align="left")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in ("provider", "price an hour", "that counts", "paid", "outcome"):
        table.add_column(name)
    for one in result["attempts"]:
        is_whole = one["outcome"] == "exited"
        counts_ms = one["ran_ms"] if is_whole else one["secured_ms"]
        table.add_row(
            one["machine"],
            format_money(one["price_hour"]),
            f"{counts_ms / 1_000:.1f} s",
            format_money(one["paid"]),
            one["outcome"].replace("_", " "),
        )
    total = sum(line.earned for line in picture.providers)
    table.add_row("together", "", "", format_money(total), "")
    console.print(table)


def show_verdict(verdict: Any) -> None:
    """Say what the audit found."""
    console.rule("the audit", align="left")
    if verdict["is_good"]:
        console.print(
            f"sublet audit verify: {verdict['entries']} entries replayed, every "
            f"signature checked again, {verdict['leases']} matches and "
            f"{verdict['leases_settled']} settlements recomputed: everything is right.",
            style="green",
        )
    else:
        console.print(f"something is wrong: {verdict['finding']}", style="bold red")


# ---- what is promised -----------------------------------------------------------------


def check(  # one argument for each witness
    result: Any, metrics: Any, wallet: Any, picture: Picture, verdict: Any, story: Story
) -> None:
    """Hold what happened against what was promised.

    Raises:
        DemoFailed: names every promise that was broken.
    """
    dead = [
        one
        for one in result["attempts"]
        if one["machine"] == story.victim and one["outcome"] != "exited"
    ]
    bills = sum(one["paid"] for one in result["attempts"])
    earned = sum(line.earned for line in picture.providers)
    promises = {
        "the held-back digits are read well": metrics["accuracy"] >= ACCURACY_MIN,
        "the picture is there": (PICTURES / "confusion.png").stat().st_size > 0,
        "the job needed another machine": len(result["attempts"]) >= 2,
        "the last machine is another one": result["attempts"][-1]["machine"]
        != story.victim,
        "it went on from a checkpoint": metrics["resumed_after_epoch"] > 0,
        "the dead machine is paid for secured seconds only": len(dead) == 1
        and dead[0]["secured_ms"] <= story.killed_ms - dead[0]["started_ms"] + 1_000
        and dead[0]["paid"]
        <= compute_owed(price_hour=dead[0]["price_hour"], ran_ms=dead[0]["secured_ms"]),
        "the bills are what the tenant spent": bills == wallet["spent"] == earned,
        "nothing is held back": wallet["held"] == 0,
        "the audit finds everything right": verdict["is_good"],
    }
    broken = [promise for promise, is_kept in promises.items() if not is_kept]
    if broken:
        raise DemoFailed("; ".join(f"not so: {promise}" for promise in broken))


if __name__ == "__main__":
    sys.exit(main())

"""Carries tasks in and results out: runs beside a worker, for one connection each.

It travels as text and knows the standard library only; it speaks JSON lines. In come
``{"send": …}``, ``{"cancel": TASK}``, ``{"ack": TASK}``; out go first ``{"held": [TASK,
…]}``, then each result, once, and how far the task under way is. Everything else lies in
files, so that a connection that breaks loses nothing: the next clerk finds what this one
left.
"""

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

BOX = Path(".sublet")
LOOK_S = 0.005
LOOK_S_MAX = 0.05
MARK_S = 5.0  # between two marks of how far the tenant has everything


def main() -> None:
    """Tell what is here, then carry until the tenant hangs up."""
    waiting = [name.split("-")[1] for name in names(BOX / "in")]
    ended = names(BOX / "out")
    held = sorted({int(name.removesuffix(".json")) for name in (*waiting, *ended)})
    say({"held": held})
    threading.Thread(target=listen, daemon=True).start()
    told: set[str] = set()
    look_s = LOOK_S
    progress = b""
    while True:
        with contextlib.suppress(FileNotFoundError):
            if (now := (BOX / "progress").read_bytes()) != progress:
                progress = now
                say(json.loads(now))
        fresh = [name for name in names(BOX / "out") if name not in told]
        for name in fresh:
            with contextlib.suppress(FileNotFoundError):
                told.add(name)
                say(json.loads((BOX / "out" / name).read_bytes()))
        time.sleep(look_s)
        look_s = LOOK_S if fresh else min(look_s * 1.5, LOOK_S_MAX)


def listen() -> None:
    """Do what the tenant says; end with it."""
    count = 0
    marked_s = 0.0
    for line in sys.stdin.buffer:
        said: dict[str, Any] = json.loads(line)
        if "send" in said:
            send(said["send"])
        elif "cancel" in said:
            cancel(int(said["cancel"]))
        elif "ack" in said:
            forget(int(said["ack"]))
            count += 1
            if time.monotonic() - marked_s > MARK_S:
                # Ships as a checkpoint: up to here the tenant has what it pays for.
                marked_s = time.monotonic()
                (BOX / "kept").mkdir(exist_ok=True)
                write_whole(BOX / "kept" / "acks", f"{time.time_ns()} {count}".encode())
    os._exit(0)


def send(task: dict[str, Any]) -> None:
    """Put a task into the queue; the same again is harmless."""
    number = int(task["task"])
    (BOX / "cancel" / str(number)).unlink(missing_ok=True)
    place = BOX / "in" / f"{time.time_ns():020d}-{number}.json"
    write_whole(place, json.dumps(task).encode())


def cancel(number: int) -> None:
    """Take a task out of the queue, or have it killed."""
    write_whole(BOX / "cancel" / str(number), b"")


def forget(number: int) -> None:
    """Let go of what came of a task."""
    (BOX / "out" / f"{number}.json").unlink(missing_ok=True)
    (BOX / "cancel" / str(number)).unlink(missing_ok=True)
    shutil.rmtree(BOX / "out" / str(number), ignore_errors=True)


def names(folder: Path) -> list[str]:
    """List what is whole."""
    return sorted(place.name for place in folder.glob("*.json"))


def say(message: dict[str, Any]) -> None:
    """Send one line."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def write_whole(place: Path, content: bytes) -> None:
    """Write a file so that nobody sees half of it."""
    draft = place.with_name(place.name + ".part")
    draft.write_bytes(content)
    draft.rename(place)


if __name__ == "__main__":
    main()

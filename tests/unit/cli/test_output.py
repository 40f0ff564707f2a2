"""What reaches a person's terminal, and what never does."""

import os
import pty

import pytest

from sublet.cli.output import (
    Ranked,
    Screen,
    clean,
    describe,
    format_table,
    summarize,
)
from sublet.workload.run import event
from sublet.workload.run.result import AttemptResult, JobResult

ESCAPES = [
    # what a job writes: what a terminal gets
    (b"plain\ttext\r\n", "plain\ttext\r\n"),
    (b"\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
    (b"\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
    (b"a\x08b\x7fc\x00", "a\ufffdb\ufffdc\ufffd"),
    ("\x9b31m é".encode(), "\ufffd31m é"),
    (b"\xff\xfe", "\ufffd\ufffd"),
]


@pytest.mark.parametrize(("content", "shown"), ESCAPES)
def test_terminal_gets_no_escapes(content: bytes, shown: str) -> None:
    leader, follower = pty.openpty()
    try:
        screen = Screen(follower)
        assert screen.is_terminal
        assert screen.render(content).decode() == shown
    finally:
        os.close(leader)
        os.close(follower)


def test_character_cut_in_two_is_whole() -> None:
    leader, follower = pty.openpty()
    try:
        screen = Screen(follower)
        assert screen.render(b"caf\xc3") + screen.render(b"\xa9") == "café".encode()
    finally:
        os.close(leader)
        os.close(follower)


async def test_pipe_gets_every_byte() -> None:
    source, target = os.pipe()
    content = bytes(range(256)) * 8
    await Screen(target).write(content)
    assert os.read(source, len(content)) == content
    os.close(source)
    with pytest.raises(BrokenPipeError):
        await Screen(target).write(b"x")
    os.close(target)


def test_stranger_s_words_lose_their_controls() -> None:
    assert clean("a\x1b[31mb\nc") == "a [31mb c"
    table = format_table(("A", "B"), [("x\x1by", "z")])
    assert "\x1b" not in table
    assert table.splitlines() == ["A    B", "x y  z"]


def test_losing_a_provider_is_told() -> None:
    said = event.Left(
        at_ms=0, provider="0x" + "a" * 40, outcome="provider_lost", note=""
    )
    assert "provider_lost" in describe(said)
    assert "moving on" in describe(said)


def test_summary_says_seconds_and_cost() -> None:
    attempt = AttemptResult(
        lease_id="0x",
        provider="0x",
        machine="m",
        price_hour=1,
        from_ms=0,
        started_ms=0,
        to_ms=0,
        ran_ms=1_250,
        secured_ms=0,
        paid=5,
        outcome="exited",
        note="",
    )
    result = JobResult(
        job_id="abc",
        name="",
        command="x",
        exit_code=0,
        message="",
        cost=400_000,
        ran_ms=2_500,
        attempts=(attempt, attempt),
        outputs=(),
        stdout="",
        stderr="",
    )
    assert summarize(result) == "job abc: 2.5s, $0.40, 2 attempts"


def test_lines_of_several_machines_are_whole_and_named() -> None:
    ranked = Ranked()

    def take(rank: int | None, data: bytes) -> bytes:
        return ranked.take(event.Wrote(at_ms=0, rank=rank, stream="stdout", data=data))

    assert take(None, b"as it ") == b"as it "  # of one machine
    assert take(0, b"a\nb") == b"[0] a\n"
    assert take(1, b"x\n") == b"[1] x\n"
    assert take(0, b"c\n\nd") == b"[0] bc\n[0] \n"
    assert take(1, b"y" * 70_000) == b"[1] " + b"y" * 70_000 + b"\n"
    assert ranked.end() == [("stdout", b"[0] d\n")]

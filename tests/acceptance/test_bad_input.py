"""What people mistype: one clear error that names the field, and nothing is begun.

No market answers here. Whatever is wrong with the words is found before anybody is
asked, so the exit code is 2 (fix the request), never 3 (try again later).
"""

import os
import socket
from pathlib import Path

import pytest

from sublet.adapter.key_file import create_key
from sublet.cli.root import EXIT_REFUSED, run_command

NOBODY = "http://127.0.0.1:9"
HUGE = 2 << 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a work folder with things in it that cannot be run, and a tenant's home."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "home").mkdir(mode=0o700)
    create_key(tmp_path / "home" / "key")
    (work / "good.py").write_text("print(1)\n")
    (work / "empty").mkdir()
    (work / "data.csv").write_text("1\n")
    with (work / "huge.py").open("wb") as file:
        file.truncate(HUGE)
    with (work / "huge.bin").open("wb") as file:
        file.truncate(HUGE * 2)
    (work / "out").mkdir()
    (work / "out" / "passwd").symlink_to("/etc/passwd")
    (work / "looped").mkdir()
    (work / "looped" / "again").symlink_to("..")
    os.mkfifo(work / "pipe")
    monkeypatch.chdir(work)
    monkeypatch.setenv("SUBLET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUBLET_MARKET", NOBODY)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def type_in(*words: str) -> int:
    """Type a command line; give its exit code."""
    return run_command(list(words))


def check_refused(
    capsys: pytest.CaptureFixture[str], code: int, *wanted: str, lines: int = 1
) -> None:
    """The error names what is wrong, in so many lines; nothing else is printed."""
    said = capsys.readouterr()
    assert code == EXIT_REFUSED, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    for text in wanted:
        assert text in said.err
    if lines:
        assert said.err.count("\n") == lines, said.err


FLAGS = [
    # what is typed before the script, what the error has to say
    (("--memory", "24"), ("--memory", "24GB")),  # no unit
    (("--memory", "24 parsecs"), ("--memory", "24GiB")),  # no such unit
    (("--memory", "-1GB"), ("--memory",)),  # negative
    (("--memory", "nan"), ("--memory",)),
    (("--memory", "1e9GB"), ("--memory",)),
    (("--memory", "0GB"), ("--memory", "too small")),
    (("--memory", "999999999PiB"), ("--memory", "more than any machine")),
    (("--memory", "9" * 400 + "GB"), ("--memory",)),
    (("--disk", "50"), ("--disk",)),
    (("--disk", ""), ("--disk",)),
    (("--vram", "24"), ("--vram", "24GB")),
    (("--vram", "inf"), ("--vram",)),
    (("--cpus", "0"), ("--cpus", "too small")),
    (("--cpus", "-1"), ("--cpus",)),
    (("--cpus", "NaN"), ("--cpus",)),
    (("--cpus", "1e3"), ("--cpus",)),
    (("--cpus", "999999"), ("--cpus", "more than any machine")),
    (("--cpus", "\u0661"), ("--cpus",)),  # a digit, but not one of ours
    (("--gpu", "h200:0"), ("--gpu", "too small")),
    (("--gpu", "h200:-1"), ("--gpu", "h200:2")),
    (("--gpu", "h200:9999"), ("--gpu",)),
    (("--gpu", ":"), ("--gpu",)),
    (("--max-price", "0"), ("--max-price", "nothing")),
    (("--max-price", "-0.10"), ("--max-price",)),
    (("--max-price", "nan"), ("--max-price", "0.40")),
    (("--max-price", "1e3"), ("--max-price",)),
    (("--max-price", "0.0000001"), ("--max-price", "six decimal")),
    (("--max-price", "99999999"), ("--max-price", "more than")),
    (("--max-total", "infinity"), ("--max-total",)),
    (("--max-total", "0.00"), ("--max-total", "nothing")),
    (("--timeout", "90"), ("--timeout", "90s")),  # no unit
    (("--timeout", "0s"), ("--timeout",)),
    (("--timeout", "-5m"), ("--timeout",)),
    (("--timeout", "9999d"), ("--timeout", "not between")),
    (("--wait", "soon"), ("--wait",)),
    (("--retries", "-1"), ("--retries", "between 0")),
    (("--retries", "1000000"), ("--retries",)),
    (("--region", "Germany"), ("--region", "DE")),
    (("--name", "a/../b"), ("--name",)),
    (("--env", "1X=1"), ("--env",)),
    (("--secret", "TOKEN=plain"), ("--secret",)),
    (("--secret", "TOKEN=@/no/such/file"), ("--secret",)),
    (("--output", "../stolen"), ("--output", "work folder")),
    (("--output", "/etc/passwd"), ("--output", "absolute")),
    (("--output", "a/../../b"), ("--output", "work folder")),
    (("--checkpoint", ".."), ("--checkpoint", "work folder")),
    (("--checkpoint", "/tmp"), ("--checkpoint", "absolute")),
    (("--input", "missing.csv"), ("--input", "is not there")),
    (("--input", "pipe"), ("--input", "no file or folder")),
    (("--input", "out"), ("out", "symlink", "put the file itself there")),
    (("--input", "huge.bin"), ("--disk",)),
    (("--input", "/"), ("--input", "name")),
    (("--input", "data.csv", "--input", "../work/data.csv"), ("--input", "rename")),
]


@pytest.mark.parametrize(("flags", "wanted"), FLAGS, ids=lambda x: " ".join(x)[:40])
def test_bad_flag_is_named(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    wanted: tuple[str, ...],
) -> None:
    check_refused(capsys, type_in("run", *flags, "good.py"), *wanted)
    assert not list((folder / "home").glob("jobs/*")), "nothing is half done"


TARGETS = [
    ("missing.py", ("missing.py", "no script")),
    ("./missing", ("./missing", "--")),
    ("empty", ("empty", "__main__.py or main.py")),  # a folder without an entry
    ("./data.csv", ("data.csv", "--input")),
    ("huge.py", ("huge.py", "--input")),  # 2 GB
    ("", ("name what to run",)),
]


@pytest.mark.parametrize(("target", "wanted"), TARGETS)
def test_bad_script_is_named(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    target: str,
    wanted: tuple[str, ...],
) -> None:
    check_refused(capsys, type_in("run", target), *wanted)
    assert not list((folder / "home").glob("jobs/*")), "nothing is half done"


def test_all_faults_come_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = type_in("run", "--memory", "1", "--cpus", "x", "--timeout", "1", "good.py")
    check_refused(capsys, code, "--memory", "--cpus", "--timeout", lines=3)


UNKNOWN = [
    ("run", "--memroy", "1GB", "good.py"),
    ("run", "--retries", "many", "good.py"),
    ("run", "--memory"),
    ("run",),
    ("rum", "good.py"),
    ("ps", "--bogus"),
    ("quote", "extra"),
    ("stop",),
    ("provider", "start", "--bogus"),
    ("provider", "innit"),
    ("node", "start", "--prot", "1"),
    ("node", "init", "extra"),
    ("audit", "verify", "--bogus"),
    ("up", "--providers", "0"),
    ("up", "--providers", "99"),
]


@pytest.mark.parametrize("words", UNKNOWN, ids=" ".join)
def test_unknown_words_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    check_refused(capsys, type_in(*words), lines=0)
    assert [path.name for path in (folder / "home").iterdir()] == ["key"]


PARTIES = [
    ("provider init --memory 16", ("--memory",)),
    ("provider init --cpus -1", ("--cpus",)),
    ("provider init --disk nan", ("--disk",)),
    ("provider init --price-cpu -0.1", ("--price-cpu",)),
    ("provider init --price-gpu 1e3", ("--price-gpu",)),
    ("provider init --price-cpu 1000.01", ("--price-cpu", "$1000.00")),
    ("provider init --watts 300", ("--tariff",)),
    ("provider init --watts -300 --tariff 0.3", ("--watts",)),
    ("provider init --watts 300 --tariff 0.3 --margin -200", ("--margin",)),
    ("provider init --cpus 0", ("--cpus",)),
    ("provider init --region germany", ("--region",)),
    ("provider init --name a/b", ("--name",)),
    ("provider init --market ftp://x", ("--market",)),
    ("provider start", ("sublet provider init",)),
    ("node init --faucet many", ("--faucet",)),
    ("node init --faucet -1", ("--faucet",)),
    ("node start", ("sublet node init",)),
]


@pytest.mark.parametrize(("words", "wanted"), PARTIES)
def test_bad_word_leaves_no_home(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    wanted: tuple[str, ...],
) -> None:
    home = folder / "party"
    code = type_in(*words.split(), "--home", str(home))
    check_refused(capsys, code, *wanted, lines=0)
    assert not home.exists(), "nothing is half done"


CONFIGS = [
    # whose, what stands in config.toml, what the error says
    ("tenant", "markt = 1\n", ("'markt'", "market")),
    ("tenant", "market = 1\n", ("config.toml", "market")),
    ("tenant", "market = \n", ("not TOML",)),
    ("node", 'lisen = "127.0.0.1:1"\n', ("lisen", "did you mean listen")),
    ("node", "[limits]\nping = 3\n", ("limits.ping",)),
    ("node", "[limits]\nping_s = 0\n", ("limits.ping_s",)),
    ("node", "[limits]\nping_s = nan\n", ("limits.ping_s",)),
    ("node", "[market]\naccept_s = -1\n", ("market.accept_s",)),
    ("node", 'faucet = "lots"\n', ("faucet",)),
    ("node", 'listen = "here"\n', ("listen",)),
    ("provider", 'color = "red"\n', ("color",)),
    ("provider", "[habits]\ncredit = 30\n", ("credit",)),
]

WHOSE = {
    "tenant": ("ps",),
    "node": ("node", "start"),
    "provider": ("provider", "start"),
}


@pytest.mark.parametrize(("whose", "text", "wanted"), CONFIGS)
def test_bad_setting_is_named(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    whose: str,
    text: str,
    wanted: tuple[str, ...],
) -> None:
    home = folder / "home"
    (home / "config.toml").write_text(text)
    words = ("wallet",) if whose == "tenant" else WHOSE[whose]
    os.environ.pop("SUBLET_MARKET")
    check_refused(capsys, type_in(*words, "--home", str(home)), *wanted, lines=0)
    names = {path.name for path in home.iterdir()}
    assert names <= {"config.toml", "key", "lock"}


def test_absent_market_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words are right, and nobody answers: that is another exit code."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code = type_in("run", "--market", url, "good.py")
    assert code == 3
    assert "is it running?" in capsys.readouterr().err

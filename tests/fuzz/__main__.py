"""``make fuzz NAME=x SECONDS=n``: coverage-guided, until something is found.

libFuzzer by atheris: inputs that reach new code are kept in ``.cache/fuzz/NAME`` and
gone on from the next time. What is found lies in ``.cache/fuzz/found``; it goes into
``tests/fuzz/found.py`` under a name, with the cure in ``src``.
"""

import subprocess
import sys
from pathlib import Path

PLACE = Path(".cache/fuzz")
INSTRUMENTED = ["sublet", "tomllib", "packaging", "urllib", "ipaddress"]


def main(name: str, seconds: str) -> int:
    """Fuzz one target, or for ``all`` each of them in turn."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.table import TARGETS
    if name == "all":
        return max(_run_other(each, seconds) for each in TARGETS)
    if name not in TARGETS:
        print("make fuzz NAME=x, where x is all, or one of:", *TARGETS)
        return 2
    target = TARGETS[name]
    corpus, found = PLACE / name, PLACE / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = PLACE / f"{name}.dict"
    words.write_text("".join(f'"{_escape(word)}"\n' for word in target.words))
    options = [f"-max_total_time={seconds}", "-max_len=10000", "-timeout=5"]
    options += ["-rss_limit_mb=2048", f"-artifact_prefix={found}/{name}-"]
    atheris.Setup(
        ["fuzz", *options, f"-dict={words}", str(corpus)], lambda raw: _feed(name, raw)
    )
    atheris.Fuzz()  # ends the process
    return 0


def _feed(name: str, raw: bytes) -> None:
    from tests.fuzz.table import TARGETS

    TARGETS[name].feed(raw)


def _run_other(name: str, seconds: str) -> int:
    print(f"== {name}", flush=True)
    return subprocess.call([sys.executable, "-m", "tests.fuzz", name, seconds])


def _escape(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

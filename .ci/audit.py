"""``make audit``: known holes in what we depend on, and an answer that is never a guess.

pip-audit calls it a success when it could look nothing up. Here that is its own
outcome: 0 every package was looked up and none has a known hole; 1 there is one; 3 not
checked, because the advisory service did not answer for some package. Whoever calls
this without a network may go on after a 3, but has to say so.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

UV = Path(sys.executable).with_name("uv")
PIP_AUDIT = "pip-audit==2.10.1"
FOUND, NOT_CHECKED = 1, 3
TIMEOUT_S = 600


def main() -> int:
    """Export the lock with its hashes, look every package up, weigh the answer."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        export = [UV, "export", "--quiet", "--locked", "--all-extras", "--no-dev"]
        subprocess.run([*export, "--no-emit-project", "-o", wanted], check=True)
        asked = [UV, "tool", "run", "--quiet", PIP_AUDIT, "--format", "json"]
        asked += ["--progress-spinner", "off", "--disable-pip", "--require-hashes"]
        answer = subprocess.run(
            [*asked, "-r", wanted],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    return weigh(answer.stdout.decode(), trouble=answer.stderr.decode())


def weigh(report: str, *, trouble: str = "") -> int:
    """Say what a report of pip-audit comes to; give the exit code."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        _say(f"audit: NOT CHECKED: pip-audit gave no report: {trouble[-500:].strip()}")
        return NOT_CHECKED
    holes = [
        f"{package['name']} {package.get('version', '')}: {hole['id']}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    for hole in holes:
        _say(f"audit: known hole: {hole}")
    if holes:
        return FOUND
    if skipped or not packages:
        _say(
            f"audit: NOT CHECKED: no answer for {len(skipped)} of {len(packages)} "
            f"packages ({', '.join(skipped[:5])} …); run it where the advisory "
            "service is reached"
        )
        return NOT_CHECKED
    _say(f"audit: {len(packages)} packages looked up, no known hole")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())

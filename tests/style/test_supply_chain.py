"""What we build from is named to the byte, and an audit that saw nothing says so."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_HASH = re.compile(r"\Asha256:[0-9a-f]{64}\Z")


def _locked() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "uv.lock").read_text())[
        "package"
    ]
    return [one for one in found if "editable" not in one["source"]]


def test_every_file_has_a_hash() -> None:
    packages = _locked()
    assert len(packages) > 20
    for package in packages:
        files = package.get("wheels", []) + (
            [package["sdist"]] if "sdist" in package else []
        )
        assert files, package["name"]
        for file in files:
            assert _HASH.match(file.get("hash", "")), (package["name"], file)


def test_everything_comes_from_a_registry() -> None:
    for package in _locked():
        assert list(package["source"]) == ["registry"], package["name"]


def test_bill_of_materials_lists_the_lock() -> None:
    uv = Path(sys.executable).with_name("uv")
    made = subprocess.run(
        [
            *(uv, "export", "--quiet", "--locked", "--all-extras", "--no-dev"),
            *("--format", "cyclonedx1.5", "--preview-features", "sbom-export"),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    bill = json.loads(made.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    versions = {one["name"]: one["version"] for one in _locked()}
    listed = {one["name"]: one["version"] for one in bill["components"]}
    assert {"aiohttp", "asyncssh", "coincurve"} <= set(listed)
    assert listed.items() <= versions.items()
    for one in bill["components"]:
        assert one["purl"].startswith("pkg:pypi/"), one["name"]


def _audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
HOLED = {"name": "c", "version": "1", "vulns": [{"id": "CVE-1"}]}
REPORTS = [
    # the packages of a report: what it comes to
    ([GOOD], 0),
    ([GOOD, SKIPPED], 3),  # pip-audit itself calls this a success
    ([], 3),
    ([GOOD, HOLED], 1),
    ([SKIPPED, HOLED], 1),
]


@pytest.mark.parametrize(("packages", "code"), REPORTS)
def test_audit_is_never_silently_green(
    packages: list[dict[str, object]], code: int
) -> None:
    assert _audit().weigh(json.dumps({"dependencies": packages})) == code


@pytest.mark.parametrize("report", ["", "oops", "[]", "{}", "null"])
def test_audit_without_a_report_is_no_audit(report: str) -> None:
    assert _audit().weigh(report) == 3

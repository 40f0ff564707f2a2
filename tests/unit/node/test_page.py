"""The page for people: self-contained, and its policy is for just this page."""

import base64
import hashlib
import re

from sublet.node.page import compute_policy, read_page


def test_policy_names_script_and_style() -> None:
    for kind in ("script", "style"):
        found = re.search(rf"<{kind}>(.*?)</{kind}>", read_page(), re.DOTALL)
        assert found is not None
        raw = hashlib.sha256(found[1].encode()).digest()
        assert (
            f"{kind}-src 'sha256-{base64.b64encode(raw).decode()}'" in compute_policy()
        )


def test_page_has_one_script_and_style() -> None:
    # The policy names one hash each; a second would silently not run.
    assert read_page().count("<script") == read_page().count("<style") == 1


def test_page_needs_nothing_from_elsewhere() -> None:
    assert not re.findall(
        r"""(?:src|href)=["'](?!/)|@import|url\(|https?://""", read_page()
    )


def test_network_never_becomes_html() -> None:
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ):
        assert word not in read_page()

"""Under which address a node reaches itself."""

from pathlib import Path

import pytest

from sublet.node.config import parse_config
from sublet.node.serve import _own_url


@pytest.mark.parametrize(
    ("listen", "url", "own"),
    [
        ("0.0.0.0:0", "http://0.0.0.0:81", "http://127.0.0.1:81"),
        ("[::]:0", "https://[::]:81", "https://[::1]:81"),
        ("127.0.0.2:0", "http://127.0.0.2:81", "http://127.0.0.2:81"),
        ("localhost:0", "http://localhost:81", "http://localhost:81"),
    ],
)
def test_address_of_its_own(tmp_path: Path, listen: str, url: str, own: str) -> None:
    assert _own_url(url, parse_config({"listen": listen}, home=tmp_path)) == own

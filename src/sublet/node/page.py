"""The page for people at ``/``: one file, nothing from elsewhere.

The policy names the hashes of the page's own script and style, so that a browser
runs these and nothing else, whatever the network may bring.
"""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def read_page() -> str:
    """Give the page's HTML."""
    return resources.files(__package__).joinpath("page.html").read_text("utf-8")


@cache
def compute_policy() -> str:
    """Write the page's Content-Security-Policy."""
    hashes: dict[str, str] = {}
    for kind, content in _INLINE.findall(read_page()):
        raw = hashlib.sha256(content.encode()).digest()
        hashes[kind] = f"'sha256-{base64.b64encode(raw).decode()}'"
    return (
        f"default-src 'none'; script-src {hashes['script']}; "
        f"style-src {hashes['style']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

"""What fuzzing has found, each with its name; none of it may come back."""

_LONG = b"9" * 5_000
_DEEP = b"[" * 5_000

FOUND: tuple[tuple[str, str, bytes], ...] = (
    ("node_config", "a number too long to be read", b"faucet = " + _LONG),
    ("node_config", "lists in lists in lists", b"nodes = " + _DEEP),
    ("node_config", "a key of 5,000 parts", b"a." * 5_000 + b"a = 1"),
    ("provider_config", "a number too long to be read", b"name = " + _LONG),
    ("provider_config", "lists in lists in lists", b"name = " + _DEEP),
    ("witness_config", "a number too long to be read", b"poll_s = " + _LONG),
    ("witness_pin", "objects in objects", b'{"a":' * 5_000),
    ("witness_pin", "no UTF-8", b'{"url":"\xff"}'),
    ("urls", "a bracket that stays open", b"http://[a"),
    ("urls", "a control character at the end", b"http://b.example\x1e/"),
    (
        "script",
        "a comment of 4,000 beginnings",
        b"# /// script\n" + b"# /// a\n" * 4_000,
    ),
    (
        "script",
        "a key of 8,000 parts",
        b"# /// script\n# " + b"a." * 8_000 + b"a=1\n# ///",
    ),
    ("requirement", "brackets in brackets", b"a; " + b"(" * 400),
)

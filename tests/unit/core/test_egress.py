"""Destinations, owner's rules about them, and addresses that nobody may be sent to."""

import pytest

from sublet.base.errors import Refused
from sublet.core.egress import (
    EgressRules,
    check_allowed,
    check_destinations,
    check_network,
    find_address_fault,
    find_fault,
    parse_destination,
)


def read(text: str) -> str:
    return str(parse_destination(text, field="--egress"))


READ = {
    "huggingface.co:443": "huggingface.co:443",
    "HuggingFace.co.:443": "huggingface.co:443",
    "*.example.org:8080": "*.example.org:8080",
    "192.0.2.7:22": "192.0.2.7:22",
    "[2001:DB8:0::1]:22": "[2001:db8::1]:22",
    "localhost:1": "localhost:1",
    "_dmarc.example.org:53": "_dmarc.example.org:53",
}


@pytest.mark.parametrize(("text", "shown"), READ.items())
def test_reads_destinations(text: str, shown: str) -> None:
    assert read(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "huggingface.co", "huggingface.co:", ":443", "a:0", "a:65536", "a:x",
        "*:443", "a:*", "*.*.org:443", "a.*.org:443", "*org:443", "-a.org:443",
        "a..b:443", ".a:443", "a b:443", "a/b:443", "a@b:443", "https://a:443",
        "127.1:80", "0x7f000001:80", "2130706433:80", "[::1:443", "[x y]:443",
        "ä.org:443", "a\0b:443", "a\nb:443", "x" * 300 + ":443",
        ".".join(["x" * 60] * 5) + ":443",
    ],
)  # fmt: skip
def test_refuses_what_is_no_destination(text: str) -> None:
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.code == "bad_destination"
    assert caught.value.field == "--egress"


def test_an_owner_may_name_all() -> None:
    for text in ("*:443", "*:*", "example.org:*"):
        assert str(parse_destination(text, field="x", is_owner=True)) == text


def test_too_many_destinations() -> None:
    with pytest.raises(Refused, match="at most 64"):
        check_destinations([f"a{number}.org:443" for number in range(65)])
    assert len(check_destinations(["a.org:443", "A.org:443"])) == 1


COVERS = [
    ("*:*", "a.org:443", True),
    ("*:443", "a.org:443", True),
    ("*:443", "a.org:80", False),
    ("a.org:443", "a.org:443", True),
    ("a.org:443", "b.org:443", False),
    ("a.org:*", "a.org:22", True),
    ("*.a.org:443", "x.a.org:443", True),
    ("*.a.org:443", "x.y.a.org:443", True),
    ("*.a.org:443", "*.y.a.org:443", True),
    ("*.a.org:443", "a.org:443", False),  # as certificates have it
    ("*.a.org:443", "nota.org:443", False),
    ("*.a.org:443", "x.a.org.evil.com:443", False),
    ("x.a.org:443", "*.a.org:443", False),  # not all that it means
    ("a.org:443", "a.org:*", False),
]


@pytest.mark.parametrize(("wide", "narrow", "holds"), COVERS)
def test_one_covers_the_other(wide: str, narrow: str, holds: bool) -> None:
    one, other = (
        parse_destination(text, field="x", is_owner=True) for text in (wide, narrow)
    )
    assert one.covers(other) is holds


def rules(*, allow: str = "", forbid: str = "", local: str = "") -> EgressRules:
    def read_all(text: str) -> tuple:  # type: ignore[type-arg]  # of destinations
        words = text.split()
        return tuple(parse_destination(one, field="x", is_owner=True) for one in words)

    return EgressRules(
        allow=read_all(allow), forbid=read_all(forbid), local=tuple(local.split())
    )


def test_nothing_is_allowed_by_default() -> None:
    (wanted,) = check_destinations(["a.org:443"])
    assert "not among" in find_fault(wanted, EgressRules())


def test_what_is_forbidden_wins() -> None:
    owners = rules(allow="*:443", forbid="*.evil.org:* evil.org:*")
    check_allowed(check_destinations(["a.org:443"]), owners, own=())
    for text in ("evil.org:443", "x.evil.org:443"):
        with pytest.raises(Refused, match="forbidden by this machine") as caught:
            check_allowed(check_destinations(["a.org:443", text]), owners, own=())
        assert caught.value.code == "egress_forbidden"
        assert caught.value.detail == {"destination": text}


def test_an_address_is_judged_at_once() -> None:
    owners = rules(allow="*:*", local="192.168.7.0/24")
    check_allowed(check_destinations(["192.168.7.9:80"]), owners, own=())
    for text in ("169.254.169.254:80", "[fd00:ec2::254]:80", "10.0.0.1:22"):
        with pytest.raises(Refused, match="not public"):
            check_allowed(check_destinations([text]), owners, own=())


NEVER = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "100.64.0.1", "169.254.169.254", "169.254.170.2", "192.0.0.192", "224.0.0.1",
    "239.1.2.3", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "::127.0.0.1", "::10.0.0.1", "168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_no_way_to_what_is_not_public(address: str) -> None:
    assert find_address_fault(address, local=(), own=()) != ""


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "140.82.112.3",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_a_way_to_what_is_public(address: str) -> None:
    assert find_address_fault(address, local=(), own=()) == ""


def test_own_network_is_shut_unless_named() -> None:
    own = ("203.0.114.0/24", "2606:4700:1::/64")
    for address in ("203.0.114.9", "::ffff:203.0.114.9", "2606:4700:1::9"):
        assert "own network" in find_address_fault(address, local=(), own=own)
    assert find_address_fault("203.0.115.9", local=(), own=own) == ""
    assert find_address_fault("203.0.114.9", local=("203.0.114.9",), own=own) == ""


def test_reads_networks_of_an_owner() -> None:
    assert check_network("192.168.1.20", field="x") == "192.168.1.20/32"
    assert check_network(" 10.1.0.0/8", field="x") == "10.0.0.0/8"
    for text in ("", "lan", "10.0.0.0/33", "10.0.0"):
        with pytest.raises(Refused) as caught:
            check_network(text, field="egress.local")
        assert (caught.value.code, caught.value.field) == (
            "bad_network",
            "egress.local",
        )

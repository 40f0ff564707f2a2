"""The machine's own networks, from tables as the kernel writes them."""

from pathlib import Path

from sublet.adapter.own_networks import find_own_networks

ROUTE = """\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t017100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 203.0.113.9
        /32 host LOCAL
     |-- 203.0.113.255
        /32 link BROADCAST
"""
SIX = "20010db8000000000000000000000009 02 40 00 80     eth0\n"


def test_reads_what_the_kernel_tells(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTE)
    (tmp_path / "fib_trie").write_text(TRIE)
    (tmp_path / "if_inet6").write_text(SIX)
    assert find_own_networks(tmp_path) == (
        "203.0.113.0/255.255.255.0",
        "203.0.113.9/32",
        "2001:db8::9/64",
    )


def test_knows_nothing_without_the_tables(tmp_path: Path) -> None:
    assert find_own_networks(tmp_path) == ()


def test_this_machine_has_a_loopback() -> None:
    assert "127.0.0.1/32" in find_own_networks()

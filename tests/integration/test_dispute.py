"""``sublet dispute``: evidence about one lease, made from a log, checked without one."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from sublet.cli.dispute import app, write_dispute
from sublet.cli.dispute_report import DisputeReport, make_report
from sublet.core.document import GiveBack, ProviderLost, Resume, Stop
from sublet.core.lease.phase import Lease
from sublet.core.merkle import Subtrees, inclusion_proof, root_of
from sublet.wire.codec import encode
from sublet.wire.cosignature import WitnessKey, add_signatures
from sublet.wire.manifest import commitment
from tests.fakes.world import World, make_key, move, submit
from tests.integration.audited_log import few
from tests.integration.dispute_house import (
    DISPUTE,
    GATHERED,
    LEASE,
    MADE_S,
    RAW,
    changed,
    collect,
    played,
)
from tests.integration.node_house import running_node, stock
from tests.style.test_light_install import WALL
from tests.unit.wire.test_manifest import MANIFEST


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


# ---- what is right ----------------------------------------------------------------


def test_recomputes_what_the_book_says() -> None:
    report = make_report(RAW)
    assert report.is_good, report.why
    found = report.outcome
    assert found is not None
    assert (found.phase, found.owed, found.paid) == ("settled", LEASE.owed, LEASE.paid)
    assert LEASE.paid > 0
    assert GATHERED.told.before == LEASE.channel_total - LEASE.paid > 0
    assert (found.ran_ms, found.secured_ms) == (10_000, 9_000)
    assert report.readings == 1
    assert report.outputs[0].outputs == "0x" + "33" * 32
    assert report.maker_role == "the tenant"
    assert report.contradictions == ()
    assert any("nothing was left out" in each for each in report.not_proven)


def test_holds_nothing_of_other_leases() -> None:
    text = RAW.decode()
    assert text.count("UsageRecord") == 1
    assert make_key("somebody").address not in text.replace(
        DISPUTE.entries[-1].entry.replace('"', '\\"'), ""
    )


async def _broken(world: World, service: object, how: str) -> Lease:
    lease = await move(service, world.order())
    if how == "never":
        world.clock.at_s += 1_000
        await service.tick()
        return service.book.find_lease(lease.id)
    for say in (world.terms, world.delivery, world.start):
        await move(service, say(lease))
    world.clock.at_s += 10
    await move(service, world.usage(lease, ran_ms=9_000))
    await move(service, world.kept(lease, ran_ms=8_000))
    await submit(service, world.channel(lease))
    await submit(service, world.voucher(lease, amount=30))
    stamp = world.stamp()
    if how == "silent":
        world.clock.at_s += 1_000
    elif how == "lost":
        lost = ProviderLost(provider=lease.provider, **stamp)
        await submit(service, world.say(lost, world.operator))
    elif how == "stopped":
        stop = Stop(lease_id=lease.id, reason="cancelled", **stamp)
        await move(service, world.say(stop, world.tenant))
        await move(service, world.receipt(lease, ran_ms=9_500, reason="stopped"))
        world.clock.at_s += 1_000  # and never paid
    elif how == "given back":
        notice = GiveBack(lease_id=lease.id, notice_s=60, **stamp)
        await move(service, world.say(notice, world.key_of(lease.provider)))
        await move(service, world.receipt(lease, ran_ms=9_500, reason="given_back"))
        world.clock.at_s += 1_000
    elif how == "outage":
        world.clock.at_s += 500
        await submit(service, world.say(Resume(**world.stamp()), world.operator))
        world.clock.at_s += 10
        await move(service, world.usage(lease, ran_ms=9_900, sequence=1))
        await move(service, world.receipt(lease, ran_ms=9_900))
    elif how == "void":
        await service.submit(
            [
                world.usage(lease, ran_ms=9_700, sequence=1),
                world.usage(lease, ran_ms=9_600, sequence=2),
            ]
        )
        world.clock.at_s += 1_000
    await service.tick()
    return service.book.find_lease(lease.id)


@pytest.mark.parametrize(
    ("how", "phase", "reason"),
    [
        ("silent", "settled", "silent"),
        ("lost", "settled", "provider_lost"),
        ("stopped", "settled", "not_paid"),
        ("given back", "settled", "not_paid"),
        ("outage", "settling", "exited"),
        ("void", "settled", "silent"),
    ],
)
def test_every_end_is_told_right(how: str, phase: str, reason: str) -> None:
    world, log, lease = played(lambda w, s: _broken(w, s, how))
    raw = write_dispute(collect(log, lease.id), key=world.tenant, made_at_s=MADE_S)
    report = make_report(raw)
    assert report.is_good, report.why
    found = report.outcome
    assert found is not None
    assert (found.phase, found.reason) == (phase, reason)
    for field in ("owed", "paid", "ran_ms", "secured_ms", "reason", "started_at_s"):
        assert getattr(found, field) == getattr(lease, field), field
    assert found.fault == lease.fault.value
    assert (found.paid > 0) is (phase == "settled")


def test_void_reading_counts_for_nothing() -> None:
    world, log, lease = played(lambda w, s: _broken(w, s, "void"))
    raw = write_dispute(collect(log, lease.id), key=world.tenant, made_at_s=MADE_S)
    report = make_report(raw)
    (void,) = [line for line in report.lines if line.void]
    assert (void.what, void.void) == ("UsageRecord", "stale_record")
    assert not any("refused entry" in each for each in report.not_proven)


def test_order_that_nobody_took_shows_no_lease() -> None:
    world, log, lease = played(lambda w, s: _broken(w, s, "never"))
    raw = write_dispute(collect(log, lease.id), key=world.tenant, made_at_s=MADE_S)
    report = make_report(raw)
    assert (report.is_good, report.outcome) == (True, None)
    assert any("no terms of it" in each for each in report.not_proven)


def test_long_lease_keeps_what_carries_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def long(world: World, service: object) -> Lease:
        lease = await move(service, world.order())
        for say in (world.terms, world.delivery, world.start):
            await move(service, say(lease))
        for second in range(1, 61):
            world.clock.at_s += 1
            record = world.usage(lease, ran_ms=second * 1_000, sequence=second)
            await move(service, record)
        return await move(service, world.receipt(lease, ran_ms=60_000))

    world, log, lease = played(long)
    monkeypatch.setattr("sublet.service.dispute.RECORDS_MAX", 10)
    gathered = collect(log, lease.id)
    assert 40 < gathered.records_left_out < 60
    raw = write_dispute(gathered, key=world.tenant, made_at_s=MADE_S)
    report = make_report(raw)
    assert report.is_good, report.why
    assert report.outcome is not None
    assert (report.outcome.phase, report.outcome.owed) == ("settling", lease.owed)


@given(st.data())
@few
def test_subtrees_prove_as_the_rfc_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    leaves = [bytes([n % 256]) * 31 + bytes([n // 256]) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    trees = Subtrees(leaves)
    assert trees.prove_inclusion(index) == inclusion_proof(leaves, index=index)
    assert root_of(leaves)


# ---- the command -------------------------------------------------------------------


async def _on_disk(path: Path) -> tuple[World, Lease]:
    from sublet.adapter.log_sqlite import SqliteLog

    log, world = SqliteLog(path), World()
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    lease = await world.play_lease(service)
    await service.close()
    log.close()
    return world, lease


def test_make_and_verify_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, lease = asyncio.run(_on_disk(tmp_path / "log.db"))
    key = tmp_path / "key"
    key.write_text(world.key_of(lease.provider).to_hex())
    key.chmod(0o600)
    monkeypatch.setenv("SUBLET_HOME", str(tmp_path / "none"))
    place = tmp_path / "evidence.json"
    code, text = run(
        lease.id[:14], "--log", tmp_path / "log.db", "--key", key, "--output", place
    )
    assert code == 0
    assert "SHA-256 0x" in text
    assert "it is private" in text
    # A machine with nothing: no home, no network, no market.
    # And no extra either: what folds whole logs is not there.
    program = WALL + "from sublet.cli.root import run_command as run\n"
    program += "sys.exit(run(sys.argv[1:]))"
    offline = [*_isolated(), sys.executable, "-c", program]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(
        [*offline, "dispute", "verify", str(place), "--market-id", world.market_id],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The file holds." in done.stdout
    assert "Not proven" in done.stdout
    assert "(the provider)" in done.stdout
    code, text = run("verify", place, "--json")
    report = json.loads(text)
    assert (code, report["outcome"]["paid"]) == (0, 152)
    code, text = run("verify", place, "--market-id", "0x" + "00" * 32)
    assert (code, "wrong_market" in text) == (1, True)
    place.write_bytes(place.read_bytes().replace(b'"sequence', b'"sequense', 1))
    code, text = run("verify", place)
    assert (code, "Nothing in it is to be believed" in text) == (1, True)


def _isolated() -> list[str]:
    """Without a network, where this machine lets us take it away."""
    probe = ["unshare", "--net", "--map-root-user", "true"]
    can = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return probe[:-1] if can else []


def test_witness_that_is_named_must_have_cosigned() -> None:
    witness = WitnessKey.generate(bytes(range(32)), "witness.test")
    stranger = WitnessKey.generate(bytes(range(1, 33)), "stranger.test")
    note = DISPUTE.checkpoint.encode()
    line = witness.cosign(note, at_s=MADE_S)
    raw = changed(checkpoint=add_signatures(note, [line]).decode())
    report = make_report(raw, witnesses=[witness.verifier_key])
    assert report.is_good, report.why
    assert report.cosigned == {witness.verifier_key: MADE_S}
    report = make_report(raw, witnesses=[stranger.verifier_key])
    assert (report.is_good, report.code) == (False, "unwitnessed")


async def _with_manifest(world: World, service: object) -> Lease:
    order = replace(world.order().document, manifest=commitment(MANIFEST))
    lease = await move(service, world.say(order, world.tenant))
    await move(service, world.terms(lease))
    return await move(service, world.delivery(lease))


def test_manifest_is_there_only_where_it_was_given() -> None:
    world, log, lease = played(_with_manifest)
    gathered = collect(log, lease.id)

    def report_of(manifest: str) -> DisputeReport:
        raw = write_dispute(
            gathered, key=world.tenant, made_at_s=MADE_S, manifest=manifest
        )
        assert (MANIFEST.salt in raw.decode()) is bool(manifest)
        return make_report(raw)

    said = encode(MANIFEST).decode()
    assert report_of("").has_manifest is False
    assert any("manifest is private" in each for each in report_of("").not_proven)
    assert report_of(said).has_manifest is True
    assert report_of(said).outcome.phase == "preparing"
    other = said.replace(MANIFEST.salt, MANIFEST.salt[::-1])
    # It has the same salt's letters, and is another manifest.
    wrong = write_dispute(gathered, key=world.tenant, made_at_s=MADE_S, manifest=other)
    assert make_report(wrong).code == "wrong_manifest"


async def test_asks_a_running_market(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        await stock(guest)
        world = guest.world
        (result,) = await guest.accept(world.order())
        assert result.lease is not None
        await guest.accept(world.terms(result.lease))
        key = tmp_path / "key"
        key.write_text(world.tenant.to_hex())
        key.chmod(0o600)
        place = tmp_path / "evidence.json"
        wishes = ("--market", guest.url, "--key", key, "--output", place, "--json")
        code, text = await asyncio.to_thread(run, result.lease.id, *wishes)
        assert (code, json.loads(text)["outcome"]["phase"]) == (0, "accepted")
        assert (await asyncio.to_thread(run, "verify", place))[0] == 0

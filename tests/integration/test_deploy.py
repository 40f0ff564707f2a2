"""``sublet deploy`` as a person types it, and a deployment on real leases."""

import asyncio
import json
from pathlib import Path

import pytest

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused
from sublet.cli.deploy_text import render_copies
from sublet.cli.run import EXIT_STOPPED
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.launch import Deployment, find_copies
from sublet.workload.run import event
from tests.image_rig import busybox_image
from tests.integration.provider_house import running_house, tenant_of, wait_settled
from tests.integration.test_tenant_command import Shell
from tests.unit.workload.deploy.sdl_text import SDL

TWO = """\
sublet: 1
services:
  second:
    image: oci-archive:{archive}
    command: [sh, -c, "echo second $WORD; sleep 600"]
    env: {{WORD: heard}}
    after: [first]
    memory: 256MiB
    max_price: 500
  first:
    image: oci-archive:{archive}
    command: [sh, -c, "echo first; sleep 600"]
    ports: [8080]
    memory: 256MiB
    max_price: 500
"""
WAIT_S = 90


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("http://127.0.0.1:9", tmp_path)  # nobody is there, and is not asked


async def test_check_asks_nobody(shell: Shell) -> None:
    (shell.folder / "deploy.yaml").write_text(SDL)
    code, out, err = await shell.type("deploy", "--check", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["ok"] and said["kind"] == "sdl"
    assert said["akash"]["groups"][0]["name"] == "west"
    assert not shell.home.exists()


async def test_check_tells_all_faults(shell: Shell) -> None:
    wrong = SDL.replace("512Mi", "4GB").replace("    env:", "    environment:")
    (shell.folder / "x.yaml").write_text(wrong)
    code, out, err = await shell.type("deploy", "--check", "x.yaml")
    assert (code, out) == (2, "")
    assert "x.yaml:5: services.web.environment: is no known key; write env:" in err
    assert "x.yaml:25: profiles.compute.small.resources.memory.size: '4GB'" in err
    code, out, _ = await shell.type("deploy", "--check", "--json", "x.yaml")
    faults = json.loads(out)["faults"]
    assert code == 2 and [fault["line"] for fault in faults] == [5, 25]


async def test_schema_is_printed(shell: Shell) -> None:
    code, out, err = await shell.type("deploy", "--schema")
    assert code == 0, err
    assert json.loads(out)["title"] == "sublet.yaml"


async def test_what_cannot_be_had_is_not_ordered(shell: Shell) -> None:
    (shell.folder / "deploy.yaml").write_text(SDL)
    code, _, err = await shell.type("deploy", "-y")
    assert code == 2 and "--akt-usd" in err


async def test_no_file_is_said(shell: Shell) -> None:
    code, _, err = await shell.type("deploy", "--check")
    assert code == 2 and "sublet.yaml" in err


@pytest.mark.container
async def test_services_run_on_leases_of_their_own(tmp_path: Path) -> None:
    archive = busybox_image().write_archive(tmp_path / "box.tar")
    text = TWO.format(archive=archive)
    plan = read_file(text.encode(), file="sublet.yaml", name="two").plan
    said: dict[str, bytes] = {}
    heard = asyncio.Event()

    async def show(name: str, what: event.AnyEvent) -> None:
        if isinstance(what, event.Wrote) and what.stream == "stdout":
            said[name] = said.get(name, b"") + what.data
            if set(said.values()) == {b"first\n", b"second heard\n"}:
                heard.set()

    async with (
        running_house(tmp_path, sandbox=BubblewrapSandbox()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        deployment = Deployment()
        await deployment.start(client, plan, on_event=show, max_total="50")
        async with asyncio.timeout(WAIT_S):
            await heard.wait()
        copies = find_copies(client, "two")
        assert [(one.service, one.number) for one in copies] == [
            ("first", 1),
            ("second", 1),
        ]
        assert copies[0].ports == (8080,)
        shown = render_copies(copies, as_json=False)
        assert shown.endswith("reach a port: sublet port two.first.1 8080")
        with pytest.raises(Refused) as caught:
            await Deployment().start(client, plan, on_event=show)
        assert caught.value.code == "deployment_exists"
        deployment.stop()
        async with asyncio.timeout(WAIT_S):
            results = await deployment.result()
        leases = await wait_settled(client)
    assert {name: result.exit_code for name, result in results.items()} == {
        "two.first.1": EXIT_STOPPED,
        "two.second.1": EXIT_STOPPED,
    }
    assert len({lease.id for lease in leases}) == 2

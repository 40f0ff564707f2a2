"""What an SDL file comes to here: prices by the hour, and what cannot be had."""

from decimal import Decimal

from sublet.wire.message import Volume
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.plan import Gpus, make_options
from tests.unit.workload.deploy.sdl_text import SDL


def plan_of(text: str, **options):
    found = read_file(text.encode(), file="deploy.yaml", name="My App!", **options)
    assert found.kind == "sdl" and found.akash is not None
    [service] = found.plan.services
    return found.plan, service


def test_credits_are_dollars() -> None:
    _, web = plan_of(SDL.replace("uakt", "uact"), is_any_provider=True)
    assert web.price_hour_max == 600_000  # 1000 micro-dollars a block, 600 an hour
    assert web.unmet == ()


def test_akt_needs_its_worth() -> None:
    _, web = plan_of(SDL)
    assert web.price_hour_max is None and "--akt-usd" in web.unmet[0]
    _, web = plan_of(SDL, akt_usd=Decimal("1.5"))
    assert web.price_hour_max == 900_000


def test_resources_are_those_of_one_copy() -> None:
    plan, web = plan_of(SDL)
    assert plan.name == "My-App"
    assert (web.cpus_milli, web.memory_bytes, web.disk_bytes) == (
        500,
        512 << 20,
        3 << 30,
    )
    assert web.gpus == Gpus(1, ("rtx4090/24GiB",))
    assert (web.copies, web.env) == (2, {"MODE": "fast"})


def test_what_cannot_be_had_is_named() -> None:
    text = SDL.replace("    env:", "    args: [-v]\n    env:")
    text = text.replace(
        "      pricing:", "      signedBy: {anyOf: [x]}\n      pricing:"
    )
    _, web = plan_of(text)
    told = "\n".join(web.unmet)
    assert "signedBy" in told and "args" not in told
    assert (web.command, web.lengthens) == (("-v",), True)
    both = text.replace("    args: [-v]", "    command: [run]\n    args: [-v]")
    _, web = plan_of(both)
    assert (web.command, web.lengthens) == (("run", "-v"), False)


def test_gpus_and_attributes_become_wishes() -> None:
    text = SDL.replace(
        "- model: rtx4090",
        "- model: A100\n                  interface: sxm\n"
        "                - model: rtx4090",
    )
    _, web = plan_of(text)
    assert web.gpus.kinds == ("a100/sxm", "rtx4090/24GiB")
    assert web.attributes == ("region=us-west",)
    options = make_options(web, "x")
    assert (options["gpu"], options["gpu_kinds"]) == ("1", web.gpus.kinds)
    assert options["attributes"] == web.attributes
    assert plan_of(text, is_any_provider=True)[1].attributes == ()


def plan_mounted(mount: str):
    text = SDL.replace("mount: /data", f"mount: {mount}").replace("uakt", "uact")
    return plan_of(text, is_any_provider=True)[1]


def test_volume_is_mounted_where_the_file_says() -> None:
    for mount in ("/data", "/root/.cache/", "/var/lib/postgresql/data"):
        web = plan_mounted(mount)
        options = make_options(web, "x")
        assert not web.unmet and "checkpoint" not in options
        assert options["volumes"] == (Volume("data", mount.rstrip("/"), True),)


def test_mount_below_work_is_kept() -> None:
    web = plan_mounted("/work/data")
    options = make_options(web, "x")
    assert options["checkpoint"] == "data" and not web.unmet
    assert "volumes" not in options


def test_bad_mounts_are_unmet() -> None:
    for mount in ("/", "/etc", "/proc/x", "/dev/shm", "/work", "/data/../etc"):
        (told,) = plan_mounted(mount).unmet
        assert told.startswith("volumes: ") and told.endswith("such as at /data"), told


def test_memory_is_there_anyway() -> None:
    text = SDL.replace("mount: /data", "mount: /dev/shm").replace("uakt", "uact")
    assert "persistent: true" in text
    text = text.replace("persistent: true", "class: ram")
    text = text.replace("                class: default\n", "")
    _, web = plan_of(text, is_any_provider=True)
    assert not web.unmet and not web.mounts


def test_file_that_links_services_is_told_so() -> None:
    plan, _ = plan_of(SDL)
    assert not plan.notes
    both = "- global: true\n          - service: web"
    linked = SDL.replace("- global: true", both)
    linked = linked.replace("        accept:\n          - www.example.org\n", "")
    plan, _ = plan_of(linked)
    assert ["sublet port" in note for note in plan.notes] == [True]

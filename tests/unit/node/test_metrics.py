"""Metrics: the book as it is now, beside what was counted."""

from prometheus_client.parser import text_string_to_metric_families

from sublet.node.metrics import NodeMetrics


def test_book_is_shown_as_it_is() -> None:
    metrics = NodeMetrics()
    metrics.render(
        leases={"running": 5},
        providers_up=1,
        log_size=1,
        links=1,
        cosigned=0,
        not_cosigned=0,
    )
    text = metrics.render(
        leases={"running": 2},
        providers_up=3,
        log_size=9,
        links=4,
        cosigned=0,
        not_cosigned=0,
    )
    families = text_string_to_metric_families(text.decode())
    samples = {
        (each.name, *each.labels.values()): each.value
        for family in families
        for each in family.samples
    }
    assert samples["sublet_leases_open", "running"] == 2
    assert samples[("sublet_providers_up",)] == 3
    assert samples[("sublet_log_entries",)] == 9
    assert samples[("sublet_control_links",)] == 4


def test_nodes_do_not_share_counters() -> None:
    one, other = NodeMetrics(), NodeMetrics()
    one.relay_bytes.inc(5)
    names = ("providers_up", "log_size", "links", "cosigned", "not_cosigned")
    args = {"leases": {}} | dict.fromkeys(names, 0)
    assert b"sublet_relay_bytes_total 0.0" in other.render(**args)  # type: ignore[arg-type] # mixed

"""What a node counts, in Prometheus text.

One registry per node, so that several nodes in one process do not mix. Labels come
from closed sets (codes, routes, phases), never from what a stranger sent.
"""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_COMMIT_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 256, 1_024)
_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class NodeMetrics:
    """The counters of one node."""

    def __init__(self) -> None:
        """Begin at zero."""
        registry = CollectorRegistry()
        self._registry = registry
        self.appended = Counter(
            "sublet_documents_appended",
            "Documents that are in the log, by type",
            ["type"],
            registry=registry,
        )
        self.refused = Counter(
            "sublet_documents_refused",
            "Documents refused at the door or void in the log, by code",
            ["code"],
            registry=registry,
        )
        self.commit_s = Histogram(
            "sublet_commit_seconds",
            "One durable group commit of the log",
            buckets=_COMMIT_BUCKETS,
            registry=registry,
        )
        self.batch = Histogram(
            "sublet_commit_documents",
            "Documents in one group commit",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.leases = Gauge(
            "sublet_leases_open", "Open leases, by phase", ["phase"], registry=registry
        )
        self.providers_up = Gauge(
            "sublet_providers_up", "Providers that the book calls up", registry=registry
        )
        self.log_size = Gauge(
            "sublet_log_entries", "Entries in the log", registry=registry
        )
        self.links = Gauge(
            "sublet_control_links", "Providers connected", registry=registry
        )
        self.dropped = Counter(
            "sublet_listeners_dropped",
            "Listeners that did not keep up with the changes of leases",
            registry=registry,
        )
        self.relay_bytes = Counter(
            "sublet_relay_bytes", "Bytes relayed, both ways", registry=registry
        )
        self.relays = Gauge(
            "sublet_relays_open", "Tenants spliced to providers now", registry=registry
        )
        self.cosigned = Gauge(
            "sublet_log_cosigned_entries",
            "Entries that the newest cosigned checkpoint covers",
            registry=registry,
        )
        self.not_cosigned = Gauge(
            "sublet_cosignatures_refused",
            "Times that a witness would not sign; look into each",
            registry=registry,
        )
        self.http_s = Histogram(
            "sublet_http_request_seconds",
            "HTTP requests, WebSockets not counted",
            ["method", "route", "status"],
            buckets=_HTTP_BUCKETS,
            registry=registry,
        )

    def render(
        self,
        *,
        leases: Mapping[str, int],
        providers_up: int,
        log_size: int,
        links: int,
        cosigned: int,
        not_cosigned: int,
    ) -> bytes:
        """Write everything as Prometheus text, with the book as it is now."""
        for phase, count in leases.items():
            self.leases.labels(phase).set(count)
        self.providers_up.set(providers_up)
        self.log_size.set(log_size)
        self.links.set(links)
        self.cosigned.set(cosigned)
        self.not_cosigned.set(not_cosigned)
        return generate_latest(self._registry)

"""What ``/metrics`` counts, for Prometheus; of no study and no patient."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mailnet.deploy.service.admission import Gate

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service.

    Args:
        gate: Of which the places taken are shown.
    """

    def __init__(self, gate: Gate) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        to = self.registry
        self.requests = Counter("mailnet_requests", "Requests by route and status.", ["route", "status"], registry=to)
        self.seconds = Histogram("mailnet_request_seconds", "From request to answer.", ["route"], registry=to)
        self.received = Counter("mailnet_received_bytes", "Bytes of uploads.", registry=to)
        self.batches = Histogram(
            "mailnet_batch_studies", "Studies that were predicted together.", ["model"], registry=to, buckets=BATCHES
        )
        places = Gauge("mailnet_requests_in_progress", "Requests being received or answered.", registry=to)
        places.set_function(lambda: gate.taken)
        stored = Gauge("mailnet_stored_bytes", "Bytes of uploads that lie on the disk.", registry=to)
        stored.set_function(lambda: gate.stored)

    def text(self) -> bytes:
        """Return all in the text format."""
        return generate_latest(self.registry)

"""What a server counts and measures, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from clapp.inference.serve.desk import Desk

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server.

    Labels are names of models, steps and statuses of HTTP, so that nobody can add to their number.
    """

    def __init__(self, desk: Desk) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._answers = Counter(
            "clapp_answers",
            "Answers to pictures, by model, what was asked for and status.",
            ("model", "what", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "clapp_step_seconds",
            "Seconds of a step of an answer.",
            ("model", "step"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._pixels = Counter(
            "clapp_pixels", "Pixels of pictures answered.", ("model",), registry=self._registry
        )
        for name, text, figure in (
            ("clapp_places_taken", "Requests worked on or waiting.", lambda: desk.taken),
            ("clapp_waiting", "Requests waiting for a thread.", lambda: desk.waiting),
        ):
            Gauge(name, text, registry=self._registry).set_function(figure)

    def answered(self, model: str, what: str, status: int) -> None:
        """Count an answer; `model` is a name of this server's, or "unknown"."""
        self._answers.labels(model, what, str(status)).inc()

    def filtered(self, model: str, pixels: int) -> None:
        """Count the pixels of a picture."""
        self._pixels.labels(model).inc(pixels)

    def watch(self, model: str) -> "Watch":
        """Measures the steps of one answer."""
        return Watch(self._seconds, model)

    def page(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)


class Watch:
    """The seconds of the steps of one answer."""

    def __init__(self, histogram: Histogram, model: str) -> None:
        self._histogram, self._model = histogram, model
        self._steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block as step `name`."""
        start = time.perf_counter()
        yield
        self._steps[name] = time.perf_counter() - start
        self._histogram.labels(self._model, name).observe(self._steps[name])

    def header(self) -> str:
        """For the header `Server-Timing`, which browsers show; milliseconds."""
        return ", ".join(f"{name};dur={s * 1000:.2f}" for name, s in self._steps.items())

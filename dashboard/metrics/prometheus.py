"""The numbers in Prometheus' words, by its own client: for a scrape, or a text file of the node
exporter.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, request

from dashboard.analysis.whole_run.step_metrics import METRICS
from dashboard.export.files import replacing_file
from dashboard.metrics.numbers import ADDITIVE, BUCKETS_S, STATES, Keeper, Labels, by_rank
from tracer.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PREFIX: Final = "rankscope_"
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def registry(keepers: Sequence[Keeper]) -> CollectorRegistry:
    """A registry of its own (nothing of this process is in it), asked anew at each scrape.

    Raises:
        UsageError: the package `prometheus-client` is missing.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise UsageError(
            "this needs the package prometheus-client: pip install 'rankscope[metrics]'"
        ) from error
    made = CollectorRegistry()
    made.register(_Collector(keepers))
    return made


def text(keepers: Sequence[Keeper]) -> str:
    """What a scrape would get."""
    made = registry(keepers)
    from prometheus_client import generate_latest

    return generate_latest(made).decode()


def write(keepers: Sequence[Keeper], out: Path) -> None:
    """A file for the node exporter's textfile collector, replaced at once and whole."""
    if out.suffix != ".prom":
        raise UsageError(f"{out}: the node exporter reads only files that end with .prom")
    said = text(keepers)
    with replacing_file(out) as file:
        file.write(said.encode())


def application(keepers: Sequence[Keeper], token: str | None) -> Flask:
    """A server's application that answers `/metrics`.

    token: None on the loopback, where only requests that name it are answered; else what a request
    has to bear (`Authorization: Bearer TOKEN`).
    """
    made = registry(keepers)
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    app = Flask("rankscope-metrics", static_folder=None)

    @app.before_request
    def check() -> Response | None:
        if token is None:
            host = request.host.rpartition(":")[0] or request.host
            return None if host in _LOOPBACK_HOSTS else _refusal(403, "ask 127.0.0.1 or localhost")
        given = request.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        return _refusal(401, "send the token: Authorization: Bearer TOKEN")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(made), content_type=CONTENT_TYPE_LATEST)

    @app.get("/")
    def root() -> Response:
        return Response(
            "Rankscope: numbers for Prometheus are at /metrics\n", mimetype="text/plain"
        )

    return app


def _refusal(status: int, why: str) -> Response:
    return Response(f"{why}\n", status=status, mimetype="text/plain")


class _Collector:
    """What Prometheus' client asks for the numbers."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = keepers

    def describe(self) -> list[Any]:
        """Nothing is known before it is asked for."""
        return []

    def collect(self) -> Iterator[Any]:
        """Every metric with the values of every run."""
        from prometheus_client import core

        found = [(keeper, keeper.numbers) for keeper in self._keepers]
        values: dict[tuple[str, Labels], float]
        for metric, what in METRICS.items():
            values = {(n.name, k): v for _, n in found for k, v in n.last.get(metric, {}).items()}
            yield _family(core.GaugeMetricFamily, metric, f"{what} Last complete step.", values)
        for metric in ADDITIVE:
            values = {(n.name, k): v for _, n in found for k, v in n.sums.get(metric, {}).items()}
            said = f"{METRICS[metric]} Sum over the steps."
            yield _family(core.CounterMetricFamily, f"all_steps_{metric}", said, values)
        histogram = core.HistogramMetricFamily(
            f"{_PREFIX}step_duration_seconds", "Steps by time.", labels=["run"]
        )
        for _, numbers in found:
            bounds = [*map(str, BUCKETS_S), "+Inf"]
            counts = list(zip(bounds, accumulate(numbers.buckets), strict=True))
            histogram.add_metric([numbers.name], counts, numbers.step_seconds)
        yield histogram
        for metric, what, attribute in (
            ("last_step", "Number of the last step that all ranks completed.", "step"),
            ("ranks", "Ranks whose events can be read.", "ranks"),
            ("world_size", "Ranks that train.", "world_size"),
        ):
            known = [(n.name, getattr(n, attribute)) for _, n in found]
            values = {(name, ()): float(value) for name, value in known if value is not None}
            yield _family(core.GaugeMetricFamily, metric, what, values)
        for metric, what, attribute in (
            ("steps", "Steps that all ranks completed.", "steps"),
            ("dropped_events", "Events lost because a buffer ran over.", "dropped"),
            ("unseen_collectives", "Collectives that were issued and not recorded.", "unseen"),
        ):
            values = {
                (n.name, labels): value
                for _, n in found
                for labels, value in by_rank(getattr(n, attribute)).items()
            }
            yield _family(core.CounterMetricFamily, metric, what, values)
        values = {(n.name, labels): value for _, n in found for labels, value in n.counters.items()}
        said = "Last value of a counter of a rank; its unit follows the slash in its name."
        yield _family(core.GaugeMetricFamily, "counter", said, values)
        ages: dict[tuple[str, Labels], float] = {
            (n.name, ()): age for k, n in found if (age := k.age_s) is not None
        }
        yield _family(
            core.GaugeMetricFamily,
            "last_step_age_seconds",
            "Since a new step was seen: grows while a training hangs.",
            ages,
        )
        states = core.StateSetMetricFamily(
            f"{_PREFIX}state",
            "waiting: nothing recorded yet; live; quiet: nothing came for 10 s; ended.",
            labels=["run"],
        )
        info = core.InfoMetricFamily(f"{_PREFIX}run", "What is recorded.", labels=["run"])
        for keeper, numbers in found:
            states.add_metric([numbers.name], {s: s == keeper.state for s in STATES})
            about = {name: getattr(numbers, name) for name in ("run_id", "schedule", "mesh")}
            info.add_metric([numbers.name], about)
        yield states
        yield info


def _family(make: Any, metric: str, what: str, values: Mapping[tuple[str, Labels], float]) -> Any:
    names = list(dict.fromkeys(name for _, labels in values for name, _ in labels))
    family = make(f"{_PREFIX}{metric}", what, labels=["run", *names])
    for (run, labels), value in values.items():
        known = dict(labels)
        family.add_metric([run, *(known.get(name, "") for name in names)], value)
    return family

"""The numbers over OTLP, by OpenTelemetry's own SDK: to a collector, or to Prometheus itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from dashboard.analysis.whole_run.step_metrics import METRICS
from dashboard.metrics.numbers import ADDITIVE, Keeper, Labels, by_rank
from tracer.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

Found = tuple[str, Labels, float]
"""Name of a run, labels and value."""

_UNITS: Final = {"_bytes_per_second": "By/s", "_seconds": "s"}
"""End of a metric's name → its unit as OpenTelemetry writes it (UCUM); all others are ratios."""


class Sender:
    """Sends the numbers to `endpoint` (`http://HOST:4318/v1/metrics`) now and then.

    Raises:
        UsageError: the packages are missing.
    """

    def __init__(self, keepers: Sequence[Keeper], endpoint: str, every_s: float) -> None:
        self._endpoint = endpoint
        self._arrived: list[bool] = []
        self._provider = _provider(keepers, endpoint, every_s, self._arrived)

    def close(self) -> None:
        """Send them a last time.

        Raises:
            UsageError: the collector did not take them.
        """
        self._provider.shutdown()
        if not (self._arrived and self._arrived[-1]):
            raise UsageError(
                f"{self._endpoint}: the numbers could not be sent; does a collector listen there?"
            )


def _provider(
    keepers: Sequence[Keeper], endpoint: str, every_s: float, arrived: list[bool]
) -> MeterProvider:
    """arrived: whether the last sending arrived."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import (
            MetricExportResult,
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise UsageError(
            "this needs OpenTelemetry's SDK: pip install 'rankscope[metrics]'"
        ) from error

    class Watched(OTLPMetricExporter):
        """The SDK says of a failure nothing but a line on standard error."""

        def export(self, *args: Any, **kwargs: Any) -> MetricExportResult:
            result: MetricExportResult = super().export(*args, **kwargs)
            arrived[:] = [result is MetricExportResult.SUCCESS]
            return result

    reader = PeriodicExportingMetricReader(
        Watched(endpoint=endpoint), export_interval_millis=1000 * every_s
    )
    made = MeterProvider(
        metric_readers=[reader],
        resource=Resource.create({"service.name": "rankscope"}),
        shutdown_on_exit=False,
    )
    meter = made.get_meter("rankscope", _version())

    def asked(read: Callable[[], Iterable[Found]]) -> list[Any]:
        def observe(_: Any) -> list[Any]:
            return [Observation(value, {"run": run, **dict(ls)}) for run, ls, value in read()]

        return [observe]

    for metric, what in METRICS.items():
        name, unit = _named(metric)
        callbacks = asked(partial(_of_metric, keepers, "last", metric))
        meter.create_observable_gauge(name, callbacks, unit, what)
    for metric in ADDITIVE:
        name, unit = _named(f"all_steps_{metric}")
        callbacks = asked(partial(_of_metric, keepers, "sums", metric))
        meter.create_observable_counter(name, callbacks, unit, METRICS[metric])
    for name, attribute, what in (
        ("rankscope.steps", "steps", "Steps that all ranks completed."),
        ("rankscope.dropped_events", "dropped", "Events lost because a buffer ran over."),
        ("rankscope.unseen_collectives", "unseen", "Collectives issued and not recorded."),
    ):
        callbacks = asked(partial(_counts, keepers, attribute))
        meter.create_observable_counter(name, callbacks, "1", what)
    meter.create_observable_gauge(
        "rankscope.counter", asked(partial(_counters, keepers)), "1", "Last value of a counter."
    )
    what = "Since a new step was seen: grows while a training hangs."
    meter.create_observable_gauge(
        "rankscope.last_step_age", asked(partial(_ages, keepers)), "s", what
    )
    return made


def _named(metric: str) -> tuple[str, str]:
    """`step_time_seconds` → `rankscope.step_time`, `s`."""
    for ending, unit in _UNITS.items():
        if metric.endswith(ending):
            return f"rankscope.{metric.removesuffix(ending)}", unit
    return f"rankscope.{metric}", "1"


def _of_metric(keepers: Sequence[Keeper], part: str, metric: str) -> Iterable[Found]:
    for numbers in (keeper.numbers for keeper in keepers):
        found = getattr(numbers, part).get(metric, {})
        yield from ((numbers.name, labels, value) for labels, value in found.items())


def _counts(keepers: Sequence[Keeper], attribute: str) -> Iterable[Found]:
    for numbers in (keeper.numbers for keeper in keepers):
        counts = by_rank(getattr(numbers, attribute))
        yield from ((numbers.name, labels, count) for labels, count in counts.items())


def _counters(keepers: Sequence[Keeper]) -> Iterable[Found]:
    for numbers in (keeper.numbers for keeper in keepers):
        yield from ((numbers.name, labels, value) for labels, value in numbers.counters.items())


def _ages(keepers: Sequence[Keeper]) -> Iterable[Found]:
    for keeper in keepers:
        age = keeper.age_s
        if age is not None:
            yield keeper.numbers.name, (), age


def _version() -> str:
    try:
        return version("rankscope")
    except PackageNotFoundError:
        return ""

"""Step windows to the nanosecond, with a clock that the test sets."""

from __future__ import annotations

from tracer.recorder import NONE, Recorder
from tracer.schema import Kind
from tracer.steps import Steps


class _Training:
    """A recorder on a clock that is set by hand, and its steps."""

    def __init__(self, *, automatic: bool) -> None:
        self.now = 0
        self.recorder = Recorder(clock=lambda: self.now)
        self.recorder.active = True
        self.ended = 0
        self.steps = Steps(self.recorder, automatic=automatic, on_end=self._count)
        self.steps.begin()

    def _count(self) -> None:
        self.ended += 1

    def compute(self, at: int) -> None:
        self.now = at
        if self.recorder.on_compute is not None:
            self.recorder.on_compute()

    def optimizer(self, at: int) -> None:
        self.now = at
        if self.recorder.on_optimizer is not None:
            self.recorder.on_optimizer()

    def step(self, at: int) -> None:
        self.now = at
        self.steps.end()

    def windows(self) -> list[tuple[int, int, int]]:
        """(step, start, end) of every step event."""
        return [
            (int(r["step"]), int(r["start"]), int(r["start"] + r["duration"]))
            for records in self.recorder.drain()
            for r in records
            if r["kind"] == Kind.STEP
        ]


def test_told_steps_tile_from_the_beginning() -> None:
    training = _Training(automatic=False)
    training.step(at=100)
    training.step(at=250)
    training.now = 400
    training.steps.finish()

    assert training.windows() == [(0, 0, 100), (1, 100, 250)]
    assert training.recorder.step == 2
    assert training.ended == 2


def test_an_automatic_step_ends_where_the_first_compute_after_an_optimizer_step_begins() -> None:
    training = _Training(automatic=True)
    assert training.recorder.step == NONE
    training.compute(at=10)
    training.compute(at=20)
    training.optimizer(at=30)
    training.compute(at=45)
    training.optimizer(at=60)
    training.now = 99
    training.steps.finish()

    assert training.windows() == [(0, 10, 45), (1, 45, 60)]


def test_accumulation_and_several_optimizers_make_one_step() -> None:
    training = _Training(automatic=True)
    for at in (10, 20, 30):
        training.compute(at)
    training.optimizer(at=40)
    training.optimizer(at=50)
    training.steps.finish()

    assert training.windows() == [(0, 10, 50)]


def test_a_last_step_without_its_optimizer_step_is_not_a_step() -> None:
    training = _Training(automatic=True)
    training.compute(at=10)
    training.optimizer(at=20)
    training.compute(at=30)
    training.now = 40
    training.steps.finish()

    assert training.windows() == [(0, 10, 30)]


def test_an_optimizer_step_before_any_compute_is_no_step() -> None:
    training = _Training(automatic=True)
    training.optimizer(at=5)
    training.steps.finish()

    assert training.windows() == []


def test_calling_step_ends_the_automatic_counting() -> None:
    training = _Training(automatic=True)
    training.compute(at=10)
    training.optimizer(at=20)
    training.step(at=25)
    training.compute(at=30)
    training.optimizer(at=40)
    training.step(at=50)

    assert training.windows() == [(0, 10, 25), (1, 25, 50)]

"""Functions that a user registered in place of an action of a pipeline schedule.

`register_custom_function` of torch *replaces* an action. Where the user's function calls the
stage's own methods, those are recorded as always; where it does the work itself, its call is the
action (of an overlapped pair: both actions, at the same time). For the time of a step each
registered function is put behind one that tells the two apart; then the schedule has its own
again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tracer.recorder import Recorder
from tracer.schema import Kind

KINDS: Final = {
    "FORWARD": Kind.FORWARD,
    "FULL_BACKWARD": Kind.BACKWARD,
    "BACKWARD_INPUT": Kind.BACKWARD_INPUT,
    "BACKWARD_WEIGHT": Kind.BACKWARD_WEIGHT,
}
"""Name of a computation type in torch → kind of the event."""

LABELS: Final = {
    Kind.FORWARD: "F",
    Kind.BACKWARD: "B",
    Kind.BACKWARD_INPUT: "I",
    Kind.BACKWARD_WEIGHT: "W",
}


class Ran:
    """How many actions the stages' own methods have recorded."""

    __slots__ = ("actions",)

    def __init__(self) -> None:
        self.actions = 0


def record_custom_functions(schedule: Any, recorder: Recorder, ran: Ran) -> dict[Any, Any]:
    """From now on the schedule's registered functions record what they replace.

    Gives back those functions by computation type, for the schedule's table to be updated with.
    """
    registered = getattr(schedule, "_comp_type_to_function_map", None) or {}
    own = dict(registered)
    registered.update({kind: _recorded(recorder, ran, function) for kind, function in own.items()})
    return own


def _recorded(recorder: Recorder, ran: Ran, function: Callable[..., Any]) -> Callable[..., Any]:
    def traced(action: Any, context: Any) -> Any:
        if not recorder.active:
            return function(action, context)
        try:
            before, started = ran.actions, recorder.clock()
        except Exception as error:
            recorder.fault(error)
        try:
            return function(action, context)
        finally:
            try:
                if recorder.active and ran.actions == before:
                    for part in action.sub_actions or (action,):
                        _record(recorder, part, started)
            except Exception as error:
                recorder.fault(error)

    return traced


def _record(recorder: Recorder, action: Any, started: int) -> None:
    kind = KINDS.get(action.computation_type.name)
    if kind is not None:
        recorder.emit(
            kind,
            recorder.names.intern(LABELS[kind]),
            started,
            recorder.clock() - started,
            stage=int(action.stage_index),
            microbatch=int(action.microbatch_index),
        )

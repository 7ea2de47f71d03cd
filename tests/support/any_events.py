"""Events of one rank and step as hypothesis makes them up: any kind, lane, time and group."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from tests.support.toy import Event
from tracer.schema import KINDS

STREAMS: Final = ("device:0", "device:1")


@st.composite
def any_events(draw: st.DrawFn) -> list[Event]:
    length = draw(st.integers(1, 400))
    events = [Event(start=0, duration=length, kind="step")]
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from([k for k in KINDS if k != "step"]))
        events.append(
            Event(
                start=draw(st.integers(-50, 420)),
                duration=draw(st.integers(0, 200)),
                kind=kind,
                lane=draw(st.sampled_from(["host:main", "host:other", *STREAMS])),
                group=draw(st.sampled_from(["tp:0", "pp:0", "dp:0", "ep:0", None])),
                stage=0,
                microbatch=number,
                seq=number,
                correlation=draw(st.sampled_from([None, number])),
            )
        )
    return events

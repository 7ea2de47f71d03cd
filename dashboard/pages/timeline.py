"""Timeline: every event of every rank on one clock, drawn by assets/timeline.mjs on a canvas.

The page brings the frame, the controls and the help; lanes and events come from timeline_api.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from dashboard.pages.markup import dashed

if TYPE_CHECKING:
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Timeline"
PATH: Final = "/timeline"
CLIENT_KEYS: Final = frozenset(
    {"t0", "t1", "sel", "hide", "path", "bubbles", "plan", "counters", "theme"}
    | {"mark", "on", "q", "order", "fold"}
)

_KEYS: Final = (
    ("W S · wheel", "zoom in and out at the pointer"),
    ("A D · ← → · drag", "pan"),
    ("shift + drag", "statistics of what is marked; also a drag on the axis"),
    ("/", "search; Enter goes on, Shift + Enter back"),
    ("F", "fit the whole run"),
    ("[ ]", "previous, next step"),
    ("P · B", "critical path, bubbles"),
    ("G · C", "the plan below each rank, counters"),
    ("X", "fold all groups, unfold them; or click a group's name"),
    ("click", "details of the event; on the axis: the step alone"),
    ("double-click · Z", "zoom to the event, to what is selected"),
    (", .", "select the event before, after"),
    ("↑ ↓", "scroll the lanes"),
    ("Esc", "close, clear the selection"),
    ("?", "this help"),
)

_ORDERS: Final = (
    ("mesh", "by stage"),
    ("rank", "by rank"),
    ("work", "most work first"),
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Section:
    """The empty frame for the chosen run."""
    run = runs[state.run]
    return html.Section(
        [
            dcc.Store(id="timeline-run", data=state.run),
            html.Div(
                [
                    _part("legend", role="group", **dashed(aria_label="Kinds shown")),
                    _moving(),
                ],
                className="timeline-bar",
            ),
            html.Div([_finding(), _overlays()], className="timeline-bar timeline-bar-low"),
            html.Div(
                [
                    _part(
                        "lanes",
                        children=html.Div(
                            [
                                _part("tooltip", role="tooltip", hidden=True),
                                _part("help-box", hidden=True, children=_help()),
                                _part("said", hidden=True, role="status"),
                                _part("trouble", hidden=True, role="alert"),
                            ],
                            className="timeline-frame",
                            tabIndex=0,
                            role="application",
                            **dashed(data_part="frame"),
                            **dashed(aria_label=f"Timeline of {run.name}; press ? for the keys"),
                        ),
                    ),
                    html.Aside(
                        hidden=True,
                        className="timeline-details",
                        **dashed(data_part="details", aria_live="polite"),
                        **dashed(aria_label="Details of the selected event"),
                    ),
                    html.Aside(
                        hidden=True,
                        className="timeline-details",
                        **dashed(data_part="statistics", aria_live="polite"),
                        **dashed(aria_label="Statistics of the selected time"),
                    ),
                ],
                className="timeline-body",
            ),
        ],
        id="timeline",
        className="timeline card",
        **dashed(data_run=str(state.run)),
    )


def register(app: Dash, runs: Sequence[Run]) -> None:
    """Let the script take over the frame each time the page is laid out."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("shell", "mountTimeline"),
        Output("timeline", "title"),
        Input("timeline-run", "data"),
    )


def _finding() -> html.Div:
    return html.Div(
        [
            _part("search-box"),
            html.Output(className="timeline-count", **dashed(data_part="search-count")),
            _button("search-previous", "↑", "Previous hit  Shift + Enter"),
            _button("search-next", "↓", "Next hit  Enter"),
            html.Select(
                [html.Option(text, value=value) for value, text in _ORDERS],
                id="timeline-order",
                className="timeline-order",
                title="Order of the ranks",
                **dashed(data_part="order", data_view_key="order", aria_label="Order of the ranks"),
            ),
        ],
        className="timeline-tools timeline-finding",
    )


def _moving() -> html.Div:
    return html.Div(
        [
            html.Output(className="timeline-range", **dashed(data_part="range")),
            _button("previous", "‹", "Previous step  ["),
            _button("next", "›", "Next step  ]"),
            _button("wider", "−", "Zoom out  S"),
            _button("closer", "+", "Zoom in  W"),
            _button("fit", "Fit", "Fit the whole run  F"),
            html.Button(
                "PNG",
                title="Save what is shown as a picture",
                type="button",
                className="tool-button",
                **dashed(data_save="png", data_name="timeline"),
                **dashed(data_canvas="#timeline [data-part=frame] > canvas"),
                **dashed(aria_label="Save what is shown as a picture"),
            ),
            _button("help", "?", "Keys  ?"),
        ],
        className="timeline-tools",
    )


def _overlays() -> html.Div:
    return html.Div(
        [
            _button("path", "Critical path", "Critical path: what the step waited for  P"),
            _button("bubbles", "Bubbles", "Bubbles: warm-up, stalls, cool-down of each stage  B"),
            _button("plan", "Plan", "The plan with equally long stages below each rank  G"),
            _button("counters", "Counters", "Memory and utilization below each rank  C"),
        ],
        className="timeline-tools",
        role="group",
        **dashed(aria_label="Shown over the lanes"),
    )


def _button(part: str, text: str, title: str) -> html.Button:
    return html.Button(
        text,
        title=title,
        type="button",
        className="tool-button",
        **dashed(data_part=part),
        **dashed(aria_label=title.split("  ")[0]),
    )


def _help() -> list[Any]:
    rows = [html.Tr([html.Th(keys, scope="row"), html.Td(what)]) for keys, what in _KEYS]
    return [html.H2("Timeline keys"), html.Table(html.Tbody(rows))]


def _part(name: str, *, children: Any = None, **attributes: Any) -> html.Div:
    return html.Div(children, className=f"timeline-{name}", **dashed(data_part=name), **attributes)

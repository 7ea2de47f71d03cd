"""The dashboard's shell: one Dash app around the pages, for the runs that it was started with.

Around every page stand the navigation, the choice of run and of steps, and the theme. What is
shown follows from the URL alone (state.py says how): assets/shell.js turns each use of a control
into a new URL, `follow` there passes the URL on to `show` here, and `show` lays out the page.
page.py says what a page is; `PAGES` is the table of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from flask import Flask, Response

from dashboard.analysis.run_names import distinct_names
from dashboard.figures.theme import css
from dashboard.pages import (
    callbacks,
    communication,
    compare,
    guard,
    live,
    memory,
    overview,
    pipeline,
    query,
    stragglers,
    timeline,
    timeline_api,
    timeline_overlays,
    whatif,
)
from dashboard.pages.markup import dashed, notice
from dashboard.pages.state import BadView, parse
from tracer.errors import RankscopeError

if TYPE_CHECKING:
    from dashboard.run import Run

PAGES: Final[tuple[ModuleType, ...]] = (
    overview,
    timeline,
    pipeline,
    communication,
    stragglers,
    whatif,
    memory,
    compare,
    query,
)
"""In the order of the navigation, and of the keys 1 to 9."""

_KEYS: Final = (
    ("T", "light or dark"),
    ("R", "choose the run"),
    ("E", "choose the steps"),
    ("Esc", "leave a field"),
    ("?", "this help; on the timeline, its own keys"),
)

_ASSETS: Final = Path(__file__).parent.parent / "assets"
_LOG: Final = logging.getLogger(__name__)

_INDEX: Final = """<!DOCTYPE html>
<html lang="en" data-theme="light">
  <head>
    {%metas%}
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>{%title%}</title>
    <link rel="icon" type="image/svg+xml" href="/assets/favicon.svg">
    <script src="/assets/boot/theme.js"></script>
    <link rel="stylesheet" href="/api/theme.css">
    {%css%}
  </head>
  <body>
    {%app_entry%}
    <footer>{%config%}{%scripts%}{%renderer%}</footer>
  </body>
</html>"""


def build_app(
    runs: Sequence[Run], *, token: str | None = None, followers: live.Followers | None = None
) -> Dash:
    """The app for these runs (at least one); `token` is needed from every visitor if given.

    followers: of the runs that are still being recorded, by their number.
    """
    server = Flask("dashboard", static_folder=None)
    paths = [page.PATH for page in PAGES]
    guard.guard(server, page_paths=paths, run_count=len(runs), token=token)
    app = Dash(
        "dashboard",
        server=server,  # type: ignore[arg-type]
        title="Rankscope",
        update_title="",
        assets_folder=str(_ASSETS),
        assets_path_ignore=["^boot$", "^timeline$"],
        serve_locally=True,
        suppress_callback_exceptions=True,
        index_string=_INDEX,
    )
    app.layout = _shell(runs, followers or {})
    _register_shell(app, runs)
    live.register(server, followers or {})
    timelines = timeline_api.Timelines(runs)
    timeline_api.register(server, timelines)
    timeline_overlays.register(server, runs, timelines)
    for page in PAGES:
        if hasattr(page, "register"):
            page.register(app, runs)
    callbacks.check_calls(server, app.callback_map)
    server.add_url_rule("/api/theme.css", "theme", lambda: Response(css(), mimetype="text/css"))
    guard.add_policy(server, app.csp_hashes)
    return app


def _shell(runs: Sequence[Run], followers: live.Followers) -> html.Div:
    links = [
        html.A(page.TITLE, href=page.PATH, className="nav-link", **dashed(data_page=page.PATH))
        for page in PAGES
    ]
    return html.Div(
        [
            html.A("Skip to the page", href="#shell-page", className="skip-link"),
            dcc.Location(id="shell-url", refresh=False),
            dcc.Store(id="shell-view"),
            dcc.Store(id="shell-pages", data=_client_keys()),
            html.Header(
                [
                    html.A(
                        [html.Span(className="brand-mark"), "Rankscope"],
                        href=PAGES[0].PATH,
                        className="brand",
                        **dashed(data_page=PAGES[0].PATH),
                    ),
                    html.Nav(links, className="nav", **dashed(aria_label="Pages")),
                    html.Div(
                        [*map(live.badge, [*followers.values()][:1]), *_controls(runs)],
                        className="controls",
                    ),
                ],
                className="topbar",
            ),
            html.Main(
                html.Div("Reading the run…", className="page-loading", role="status"),
                id="shell-page",
                className="page",
                tabIndex=-1,
            ),
            _help(),
        ],
        className="shell",
    )


def _help() -> html.Dialog:
    """The keys of all pages (assets/keys.js); the timeline has more of its own."""
    pages = [(str(number), page.TITLE) for number, page in enumerate(PAGES, start=1)]
    keys = [*pages, *_KEYS]
    rows = [html.Tr([html.Th(key, scope="row"), html.Td(what)]) for key, what in keys]
    close = html.Button(
        "×", type="button", className="icon-button", **dashed(aria_label="Close", data_close="")
    )
    head = html.Div([html.H2("Keys"), close], className="card-head")
    return html.Dialog(
        [head, html.Table(html.Tbody(rows), className="keys")],
        id="shell-help",
        className="help",
        **dashed(aria_label="Keys"),
    )


def _client_keys() -> dict[str, list[str]]:
    return {page.PATH: sorted(getattr(page, "CLIENT_KEYS", ())) for page in PAGES}


def _controls(runs: Sequence[Run]) -> list[Any]:
    options = [html.Option(name, value=str(i)) for i, name in enumerate(distinct_names(runs))]
    return [
        html.Label(
            [html.Span("Run"), html.Select(options, id="shell-run")],
            className="control",
            title="The run that the pages show",
        ),
        html.Label(
            [
                html.Span("Steps"),
                dcc.Input(
                    id="shell-steps",
                    type="text",
                    debounce=True,
                    placeholder="all",
                    autoComplete="off",
                    maxLength=20,
                ),
            ],
            id="shell-steps-control",
            className="control",
            title="One step (7) or a range (3-9); empty: all",
        ),
        html.Button(
            "?",
            id="shell-keys",
            className="icon-button",
            title="Keys  ?",
            **dashed(aria_label="Keys", aria_haspopup="dialog"),
        ),
        html.Button(
            id="shell-theme",
            className="icon-button",
            title="Light or dark",
            **dashed(aria_label="Switch between light and dark"),
        ),
    ]


def _register_shell(app: Dash, runs: Sequence[Run]) -> None:
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("shell", "follow"),
        Output("shell-view", "data"),
        Output("shell-steps", "value"),
        Input("shell-url", "pathname"),
        Input("shell-url", "search"),
        Input("shell-pages", "data"),
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("shell", "chooseSteps"),
        Output("shell-steps-control", "className"),
        Input("shell-steps", "value"),
    )
    by_path = {page.PATH: page for page in PAGES}

    @app.callback(
        Output("shell-page", "children"), Input("shell-view", "data"), prevent_initial_call=True
    )
    def show(view: Any) -> Any:
        return _page(by_path, view, runs)


def _page(by_path: dict[str, ModuleType], view: Any, runs: Sequence[Run]) -> list[Any]:
    try:
        if not isinstance(view, dict):
            raise BadView("the view is no object with a pathname and a search")
        page = by_path[str(view["pathname"])]
        state = parse(str(view["search"]), len(runs))
        numbers = dict.fromkeys(n for n in (state.run, state.other) if n is not None)
        banners = [_banner(runs[number]) for number in numbers if runs[number].problems]
        content = page.layout(runs, state)
        _keep_zoom(content, str(view["search"]))
        return [*banners, content, _marker(view)]
    except KeyError:
        return [notice("There is no such page.")]
    except RankscopeError as error:
        return [notice(str(error))]
    except Exception:
        _LOG.exception("page %s", view)
        return [notice("This page failed; the reason is in the terminal that runs the dashboard.")]


def _keep_zoom(content: Any, view: str) -> None:
    """Laid out again with the same view, a figure keeps what the user made of its axes."""
    for part in content._traverse():
        if isinstance(part, dcc.Graph):
            figure: Any = getattr(part, "figure")  # noqa: B009 - Dash declares no attributes
            figure.update_layout(uirevision=view)


def _marker(view: dict[str, Any]) -> html.Span:
    """Tells live.js which opening of a growing run the page shows."""
    generation = str(view.get("generation", ""))[:20]
    return html.Span(id="shell-drawn", hidden=True, **dashed(data_generation=generation))


def _banner(run: Run) -> html.Div:
    """What of a run could not be read: each file and what to do."""
    count = len(run.problems)
    head = f"{run.name}: {count} problem{'s' * (count > 1)}; what is readable is shown"
    lines = [html.Li([html.Strong(f"{p.file}: "), p.message]) for p in run.problems]
    details = html.Details([html.Summary(head), html.Ul(lines)], open=True)
    return html.Div(details, className="notice", role="status")

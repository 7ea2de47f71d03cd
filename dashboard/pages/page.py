"""What a page is: the interface between the shell (app.py) and the modules beside it.

A page is a module with

    TITLE = "Pipeline"                      # in the navigation
    PATH = "/pipeline"                      # its address
    def layout(runs, state): ...            # → a Dash component; no arithmetic, calls analysis
                                            #   and figures, passes `state.theme` to the figures
    def register(app, runs): ...            # optional: its callbacks, called once at start
    CLIENT_KEYS = frozenset({"t0", "t1"})   # optional: query keys that the page follows by itself
                                            #   in the browser: their change is no new layout

and a line in the table of app.py. The shell calls `layout` again whenever the URL changes, so a
page holds no state. To change the view, a control puts it into the URL: in the browser
`rankscope.view.set({op: "all_reduce"})`, in Python a link to `PATH + "?" + state.query()`
(`dataclasses.replace(state, …)` makes the changed state). Component ids start with the page's
name (`pipeline-…`), so that pages cannot collide. A `RankscopeError` that `layout` raises is
shown in place of the page.

Figures go into `dcc.Graph`; not those of plotly's WebGL traces (`scattergl` and the like), which
compile code in the browser, and that the content security policy (guard.py) forbids.

CSS classes that the shell provides (assets/app.css): `card` (a boxed section), `card-title`,
`card-note` (muted text under a title), `grid-2`, `grid-3` (columns), `tiles` and `tile` with
`tile-value`, `tile-label`, `tile-note` (headline numbers), `data-table` (a plain HTML table,
`num` right-aligns a cell), `notice` (a warning), `muted`, `mono`, `swatch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from dashboard.pages.state import ViewState
    from dashboard.run import Run


class Page(Protocol):
    """A page module; see the text above for what is optional."""

    TITLE: str
    PATH: str

    def layout(self, runs: Sequence[Run], state: ViewState) -> Component:
        """The page's content for this state."""
        ...

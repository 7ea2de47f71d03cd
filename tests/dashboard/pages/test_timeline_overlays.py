"""The routes for what the timeline shows beside its events: answers and refusals."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from dashboard import open_run
from dashboard.pages.app import build_app
from tests.support.toy import Event, write_run

RANKS = range(4)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """Four ranks that do a forward from 0 to 50 ns, rank 3 to 80 ns, of a step of 100 ns."""
    events = {
        rank: [
            Event(start=0, duration=100, kind="step", name="step"),
            Event(start=0, duration=80 if rank == 3 else 50, kind="forward", name="F", stage=rank),
        ]
        for rank in RANKS
    }
    run = open_run(write_run(tmp_path_factory.mktemp("runs") / "run", events))
    return build_app([run], token=None).server.test_client()


def test_a_selection_takes_ranks_and_ranges_of_them(client: FlaskClient) -> None:
    def chosen(ranks: str) -> list[int]:
        reply = client.get(f"/api/timeline/0/selection?t0=0&t1=100&ranks={ranks}")
        return [row[0] for row in reply.get_json()["ranks"]]

    assert chosen("") == [0, 1, 2, 3]
    assert chosen("0-1,3") == [0, 1, 3]
    assert chosen("2-999999999") == [2, 3]


def test_a_selection_is_cut_to_its_edges(client: FlaskClient) -> None:
    reply = client.get("/api/timeline/0/selection?t0=40&t1=60&ranks=2-3").get_json()
    (forward,) = reply["events"]
    assert (forward["name"], forward["count"], forward["duration"]) == ("F", 2, 10 + 20)
    compute = reply["categories"].index("compute") + 1
    assert [row[compute] for row in reply["ranks"]] == [10, 20]
    assert [sum(row[1:]) for row in reply["ranks"]] == [20, 20]


def test_a_search_counts_its_hits_and_goes_to_the_next(client: FlaskClient) -> None:
    reply = client.get("/api/timeline/0/search?q=kind:forward&after=0").get_json()
    assert (reply["count"], reply["at"], reply["hit"]["rank"]) == (4, 0, 0)
    reply = client.get("/api/timeline/0/search?q=kind:forward&at=3").get_json()
    assert (reply["hit"]["rank"], reply["hit"]["duration"]) == (3, 80)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("selection?t0=0&t1=100&ranks=a", "numbers or ranges"),
        ("selection?t0=0&t1=100&ranks=1,,2", "numbers or ranges"),
        ("selection?t0=0&t1=100&ranks=7", "nothing is selected"),
        ("selection?t0=9&t1=9", "not after"),
        ("search?q=rank:x&after=0", "a number or a range"),
        ("search?q=" + "y" * 201 + "&after=0", "up to 200 characters"),
        ("bubbles?t0=0&t1=1&width=0", "wanted 1 to"),
        ("same/9/0", "no event"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    client: FlaskClient, path: str, why: str
) -> None:
    reply = client.get(f"/api/timeline/0/{path}")
    assert reply.status_code == 400
    assert why in reply.text
    assert "\n" not in reply.text

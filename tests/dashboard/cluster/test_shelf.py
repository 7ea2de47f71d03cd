"""Results beyond what fits in memory come back as they were."""

from __future__ import annotations

import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dashboard.cluster.shelf import _SMALL, Shelf, bytes_of
from tracer.errors import TraceError


@dataclass(frozen=True, slots=True)
class Part:
    """A result as tasks have them."""

    table: pa.Table
    by_place: dict[int, np.ndarray]


def _part(number: int) -> Part:
    """80,000 bytes in the table, 20,000 in the array."""
    table = pa.table({"number": np.full(10_000, number, np.int64)})
    return Part(table, {7: np.full(2_500, number, np.int64)})


def test_what_exceeds_the_memory_lies_in_a_file_until_it_is_taken() -> None:
    with Shelf(kept_bytes=250_000) as shelf:
        for number in range(5):
            shelf[f"part-{number}"] = _part(number)
        assert (shelf.held, shelf.written) == (201_024, 3), "two of 100,512 bytes fit"
        for number in (4, 0, 2):
            found, expected = shelf[f"part-{number}"], _part(number)
            assert found.table.equals(expected.table)
            assert (found.by_place[7] == expected.by_place[7]).all()
        del shelf["part-0"], shelf["part-4"]
        shelf["part-5"] = _part(5)
        assert (shelf.held, shelf.written) == (201_024, 3), "there is room again"
        assert list(shelf) == ["part-1", "part-2", "part-3", "part-5"]


def test_small_results_stay_as_they_are() -> None:
    with Shelf(kept_bytes=0) as shelf:
        small = {"sum": 12}
        shelf["small"] = small
        assert shelf["small"] is small


def test_bytes_are_those_of_tables_and_arrays() -> None:
    assert bytes_of(_part(1)) == 100_000 + 512
    assert bytes_of((_part(1), [_part(2)], "text", None)) == 200_000 + 2 * 512


def test_many_small_tables_do_not_fill_the_memory() -> None:
    """One of a few rows takes 500 bytes per column, whatever it holds."""
    few = {f"column {number}": [number] for number in range(13)}
    with Shelf(kept_bytes=100_000) as shelf:
        for number in range(1_000):
            shelf[f"part-{number}"] = pa.table(few)
        assert shelf.held <= 100_000 + _SMALL
        assert shelf.written > 900
        assert shelf["part-999"].to_pydict() == few


def test_no_place_for_the_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with Shelf(kept_bytes=0) as shelf, pytest.raises(TraceError, match="TMPDIR"):
        shelf["part"] = _part(1)


def test_what_is_known_already_stays_in_memory_where_there_is_no_place_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with Shelf(kept_bytes=0, may_hold_more=True) as shelf:
        shelf["part"] = _part(1)
        assert shelf["part"].table.equals(_part(1).table)
        assert (shelf.held, shelf.written) == (100_512, 0)


@pytest.mark.parametrize("may_hold_more", [True, False])
def test_what_a_full_disk_did_not_take_leaves_the_rest_as_it_was(may_hold_more: bool) -> None:
    """Half of it was written, and whoever reads later is not told of that."""
    first, second = (np.random.default_rng(seed).integers(0, 1 << 60, 5_000) for seed in (1, 2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Shelf(kept_bytes=0, may_hold_more=may_hold_more) as shelf:
        shelf["first"] = first
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
            if may_hold_more:
                shelf["second"] = second
                assert (shelf["second"] == second).all()
            else:
                with pytest.raises(TraceError, match="TMPDIR"):
                    shelf["second"] = second
            assert (shelf["first"] == first).all()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        shelf["third"] = first + 1
        assert (shelf["third"] == first + 1).all()
        assert (shelf["first"] == first).all()


def test_a_result_takes_the_place_of_one_of_its_name_and_nobody_reads_to_see_whether_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Shelf(kept_bytes=100_512) as shelf:
        for number in (1, 2):
            shelf["part"] = _part(number)
        assert (shelf.held, shelf.written) == (100_512, 0)
        shelf["other"] = _part(3)
        monkeypatch.setattr(Shelf, "_read", None)
        assert "other" in shelf
        assert "none" not in shelf

"""Real exchanges over real sockets, the hosts being clocks of our own in one process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from tracer.clocks import exchange, rendezvous
from tracer.clocks.endpoint import Endpoint, local_addresses
from tracer.clocks.exchange import ClockExchange
from tracer.recorder import Recorder

WAIT_S = 20.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = dist.HashStore()
    monkeypatch.setattr(rendezvous, "_default_store", lambda: made)
    return made


@contextmanager
def _exchange(rank: int, clock_id: str, ahead: int) -> Iterator[Recorder]:
    """A rank whose clock is `ahead` ns of the others'."""
    recorder = Recorder(clock=lambda: time.monotonic_ns() + ahead)
    running = ClockExchange(recorder, rank=rank, clock_id=clock_id, key="test")
    running.start()
    try:
        yield recorder
    finally:
        running.finish()
        running.close()


def _until(met: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


def test_a_host_finds_how_far_its_clock_is_off_within_the_bound(store: Any) -> None:
    with _exchange(0, "a", 0) as root, _exchange(1, "b", -5_000_000_000) as asker:
        _until(lambda: len(asker.clock_samples) >= 2)

    assert not root.clock_samples
    assert (root.failure, asker.failure) == (None, None)
    for _, source, offset, error in asker.clock_samples:
        assert source == "rank:0"
        assert abs(offset - 5_000_000_000) <= error < 50_000_000


def test_the_end_of_a_recording_compares_once_more(store: Any) -> None:
    with _exchange(0, "a", 0), _exchange(1, "b", 7) as asker:
        _until(lambda: asker.clock_samples)
        before = len(asker.clock_samples)

    assert len(asker.clock_samples) > before


def test_of_each_host_one_rank_compares_and_of_rank_0s_host_none(store: Any) -> None:
    with ExitStack() as stack:
        hosts = ["a", "a", "b", "b", "c", "c"]
        recorders = [stack.enter_context(_exchange(r, h, 0)) for r, h in enumerate(hosts)]
        _until(lambda: sum(bool(recorder.clock_samples) for recorder in recorders) == 2)
    asking = [hosts[rank] for rank, recorder in enumerate(recorders) if recorder.clock_samples]

    assert sorted(asking) == ["b", "c"]


def test_hosts_beyond_the_fan_out_ask_one_that_is_nearer_to_the_root(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "FANOUT", 2)
    with ExitStack() as stack:
        recorders = [
            stack.enter_context(_exchange(r, f"host {r}", r * 1_000_000_000)) for r in range(7)
        ]
        _until(lambda: all(recorder.clock_samples for recorder in recorders[1:]))
    parents = {}
    for rank, recorder in enumerate(recorders[1:], start=1):
        for _, source, offset, error in recorder.clock_samples:
            parents[rank] = int(source.removeprefix("rank:"))
            assert abs(offset - (parents[rank] - rank) * 1_000_000_000) <= error
    asked = sorted(parents.values())

    assert asked.count(0) == 2
    assert max(asked.count(rank) for rank in range(7)) == 2


def test_a_slow_way_in_one_direction_is_inside_the_bound(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay holds what it carries, 4 ms there and none back: half of that cannot be seen."""
    with _relay(there_s=0.004) as forward:
        real = rendezvous.own_address

        def through_the_relay(rank: int, clock: str, port: int) -> rendezvous.Address:
            address = real(rank, clock, port)
            return replace(address, addresses=("127.0.0.1",), port=forward(port))

        monkeypatch.setattr(exchange, "own_address", through_the_relay)
        with _exchange(0, "a", 1_000_000_000), _exchange(1, "b", 0) as asker:
            _until(lambda: asker.clock_samples)

    for _, _, offset, error in asker.clock_samples:
        assert error > 2_000_000
        assert 1_000_000 < offset - 1_000_000_000 <= error


def test_nobody_answers_and_the_end_does_not_wait_for_it(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that is stuck in its exchange costs the others their comparison, nothing else."""
    stuck = threading.Event()
    monkeypatch.setattr(ClockExchange, "_answer", lambda *arguments: stuck.wait(WAIT_S))
    with _exchange(0, "a", 0), _exchange(1, "b", 0) as asker:
        _until(lambda: store.check(["rankscope/clock/test/1"]))
    stuck.set()

    assert not asker.clock_samples
    assert asker.failure is None


def test_without_a_process_group_nothing_is_exchanged_and_the_end_comes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendezvous, "_default_store", lambda: None)
    before = set(threading.enumerate())
    with _exchange(0, "a", 0) as recorder:
        pass

    assert set(threading.enumerate()) <= before
    assert not recorder.clock_samples


def test_a_store_that_goes_with_its_rank_ends_the_comparing_and_not_the_recording(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 does not record, so that rank 1 asks for its address until rank 0 has ended."""
    held = [dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)]
    asking = dist.TCPStore("127.0.0.1", held[0].port, is_master=False)
    monkeypatch.setattr(rendezvous, "_default_store", lambda: asking)
    asks, address = threading.Event(), rendezvous._address

    def asked(*arguments: Any) -> Any:
        asks.set()
        return address(*arguments)

    monkeypatch.setattr(rendezvous, "_address", asked)
    before = set(threading.enumerate())
    with _exchange(1, "a", 0) as recorder:
        assert asks.wait(WAIT_S)
        held.clear()
        _until(lambda: set(threading.enumerate()) <= before)

    assert recorder.failure is None
    assert capsys.readouterr().err.count("rankscope: clocks of hosts are not compared") == 1


def test_a_store_that_allows_no_second_connection_leaves_the_recording_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's fake backend has such a Store, which dry runs of large trainings use."""
    asked = threading.Event()

    def fake() -> FakeStore:
        asked.set()
        return FakeStore()

    monkeypatch.setattr(rendezvous, "_default_store", fake)
    before = set(threading.enumerate())
    with _exchange(0, "a", 0) as recorder:
        assert asked.wait(WAIT_S)
        _until(lambda: set(threading.enumerate()) <= before)

    assert recorder.failure is None
    assert not recorder.clock_samples
    assert capsys.readouterr().err == ""


def test_strangers_are_not_answered(store: Any) -> None:
    with _exchange(0, "a", 0), _exchange(1, "b", 0) as asker:
        _until(lambda: asker.clock_samples)
        root = rendezvous._address(
            dist.PrefixStore("rankscope/clock/test", store), 0, threading.Event()
        )
        assert root is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.settimeout(0.2)
            for datagram in (b"", b"hello", bytes(56), bytes(10_000)):
                stranger.sendto(datagram, ("127.0.0.1", root.port))
            with pytest.raises(TimeoutError):
                stranger.recv(1000)

    assert asker.failure is None


def test_an_arrival_is_told_as_of_the_moment_it_came_and_not_when_it_was_read() -> None:
    """The kernel begins to stamp arrivals some time after the first socket asks it to."""
    endpoint, deadline = Endpoint(time.monotonic_ns), time.monotonic() + 30
    try:
        is_early = False
        while not is_early and time.monotonic() < deadline:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                before = time.monotonic_ns()
                sender.sendto(b"ping", ("127.0.0.1", endpoint.port))
                time.sleep(0.005)  # it lies in the socket meanwhile
            after = time.monotonic_ns()
            (arrival,) = endpoint.arrivals()
            assert arrival.data == b"ping"
            assert before <= arrival.time
            is_early = arrival.time < after - 2_000_000
    finally:
        endpoint.close()

    assert is_early


def test_a_host_has_an_address() -> None:
    assert local_addresses("127.0.0.1")[0] == "127.0.0.1"
    assert "" not in local_addresses("no such host.invalid")


@contextmanager
def _relay(there_s: float) -> Iterator[Callable[[int], int]]:
    """Carries datagrams to a port and back; those that go there are held for so long."""
    closing, threads, sockets = threading.Event(), [], []

    def forward(port: int) -> int:
        front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        front.bind(("127.0.0.1", 0))
        back.bind(("127.0.0.1", 0))
        asker: list[Any] = []

        def carry(source: socket.socket, is_question: bool) -> None:
            source.settimeout(0.05)
            while not closing.is_set():
                try:
                    data, sender = source.recvfrom(1000)
                except TimeoutError:
                    continue
                if is_question:
                    asker[:] = [sender]
                    time.sleep(there_s)
                    back.sendto(data, ("127.0.0.1", port))
                else:
                    front.sendto(data, asker[0])

        for source, is_question in ((front, True), (back, False)):
            threads.append(threading.Thread(target=carry, args=(source, is_question)))
            threads[-1].start()
        sockets.extend((front, back))
        return int(front.getsockname()[1])

    try:
        yield forward
    finally:
        closing.set()
        for thread in threads:
            thread.join()
        for opened in sockets:
            opened.close()

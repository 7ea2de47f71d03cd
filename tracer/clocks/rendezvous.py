"""Who compares its clock with whose: a tree over the hosts, agreed on through the c10d Store.

Processes of one host share a clock, so one rank speaks for each host: on rank 0's host rank 0, on
every other the first that arrives. It takes the next number of a counter in the Store, publishes
where it can be reached, and compares its clock with that of host (number − 1) // FANOUT. So no
host serves more than FANOUT others, and a comparison passes at most log(hosts) of them.

A rank costs the Store 2 small messages, the one that speaks for its host 4 more, and what asking
again costs while a key is not there yet. Nobody waits in the Store: a wait holds its connection.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Any, Final

from tracer.clocks.endpoint import local_addresses

FANOUT: Final = 16
"""Hosts that compare their clocks with one: 16 keep that one busy for 1 ms in a second."""

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the rank that speaks for a host answers. `token` must stand in what it is asked."""

    rank: int
    clock: str
    addresses: tuple[str, ...]
    port: int
    token: str

    @property
    def secret(self) -> bytes:
        """The token as it travels."""
        return base64.b16decode(self.token)


def shared_store(stopping: threading.Event, prefix: str) -> Any:
    """A connection of our own to the Store of the default process group; None if we stop first,
    or if it is a Store that can have no second one: then no clocks are compared.

    Of our own, since requests of one connection wait for each other: the training's must not
    wait for ours.
    """
    pause = _FIRST_PAUSE_S
    while not stopping.wait(pause):
        store = _default_store()
        if store is not None:
            distributed = sys.modules["torch.distributed"]
            try:
                connection = store.clone()
            except (RuntimeError, NotImplementedError):  # torch's fake store, and stores of others
                return None
            return distributed.PrefixStore(prefix, connection)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return None


def own_address(rank: int, clock: str, port: int) -> Address:
    """Where this rank can be reached, with a new token."""
    towards = os.environ.get("MASTER_ADDR", "127.0.0.1")
    return Address(
        rank=rank,
        clock=clock,
        addresses=tuple(local_addresses(towards)),
        port=port,
        token=os.urandom(16).hex().upper(),
    )


def publish_root(store: Any, address: Address) -> None:
    """Rank 0 says where it is."""
    store.set("0", json.dumps(asdict(address)))


def speaks_for_its_host(store: Any, clock: str, stopping: threading.Event) -> bool:
    """Whether this rank (not 0) compares clocks; no other rank of its host is told so."""
    root = _address(store, 0, stopping)
    return root is not None and root.clock != clock and store.add(f"host/{clock}", 1) == 1


def join(store: Any, address: Address, stopping: threading.Event) -> Address | None:
    """Publish our address; the address to compare with, or None if we stop first."""
    number: int = store.add("hosts", 1)
    store.set(str(number), json.dumps(asdict(address)))
    return _address(store, (number - 1) // FANOUT, stopping)


def _address(store: Any, number: int, stopping: threading.Event) -> Address | None:
    pause = _FIRST_PAUSE_S
    while not store.check([str(number)]):
        if stopping.wait(pause):
            return None
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    raw = json.loads(store.get(str(number)))
    return Address(**{**raw, "addresses": tuple(raw["addresses"])})


def _default_store() -> Any:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not getattr(distributed, "is_available", lambda: False)():
        return None
    if not getattr(distributed, "is_initialized", lambda: False)():
        return None
    return sys.modules["torch.distributed.distributed_c10d"]._get_default_store()

"""A UDP socket whose datagrams carry the time at which the kernel received them.

A thread that waits for a datagram may wake late: it needs a processor, and then the interpreter
lock, which the training holds. The kernel's own time of arrival (SO_TIMESTAMPNS) knows nothing of
either. It is a time of the wall clock, so it is carried over to the recorder's clock by its age.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tracer.clocks.wall import both_clocks

_SO_TIMESTAMPNS: Final = getattr(socket, "SO_TIMESTAMPNS", 35)
"""asm-generic/socket.h of Linux; its message holds a `struct timespec`."""

_TIMESPEC: Final = struct.Struct("@ll")
_MAX_DATAGRAM: Final = 256
_OLDEST_NS: Final = 10_000_000
"""An older arrival is taken for one of this moment (and its ping for a slow one): the age is
measured on the wall clock, which may run or be set otherwise than the recorder's."""

_SIOCGIFADDR: Final = 0x8915


class Arrival(NamedTuple):
    """A datagram, where it came from, and when it arrived (ns of the recorder's clock)."""

    data: bytes
    sender: tuple[str, int]
    time: int


class Endpoint:
    """One bound socket; `clock` is the clock in which arrivals are told."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("", 0))
        self.socket.setblocking(False)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.port = int(self.socket.getsockname()[1])

    def send(self, data: bytes, receiver: tuple[str, int]) -> None:
        """Send, or lose the datagram: whoever waits for an answer asks again."""
        with contextlib.suppress(OSError):
            self.socket.sendto(data, receiver)

    def arrivals(self) -> Iterator[Arrival]:
        """Everything that has arrived by now."""
        while True:
            try:
                data, ancillary, _, sender = self.socket.recvmsg(_MAX_DATAGRAM, 64)
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            yield Arrival(data, sender, self._arrival_time(ancillary))

    def close(self) -> None:
        """Close the socket; what comes later is lost."""
        self.socket.close()

    def _arrival_time(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        """Never too early, so that a way is never too short: that would break its bound."""
        ours, wall = both_clocks(self._clock)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack_from(content)
                age: int = wall - (seconds * 1_000_000_000 + nanoseconds)
                if 0 <= age < _OLDEST_NS:
                    return ours - age
        return ours


def local_addresses(towards: str) -> list[str]:
    """IPv4 addresses of this host, the most promising one first.

    `towards` is the address of a host that all ranks reach. Which interface another host can
    reach cannot be known here, so whoever wants to talk to this one tries them in turn.
    """
    found = _source_address(towards)
    with contextlib.suppress(OSError):
        named = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        found += [str(info[4][0]) for info in named]
    return list(dict.fromkeys(found + _interface_addresses()))


def _source_address(towards: str) -> list[str]:
    """Which of our addresses the kernel would send from; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        return [str(probe.getsockname()[0])]
    return []


def _interface_addresses() -> list[str]:
    if os.name != "posix" or sys.platform != "linux":
        return []
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, asked)
                found.append(socket.inet_ntoa(answer[20:24]))
    return sorted(found, key=lambda address: address.startswith("127."))

"""Write an SQLite export as Nsight Systems documents it: a stand-in, since no nsys is at hand.

Tables and columns follow the "SQLite Export Schema Reference" (schema 3.x); the header of NCCL's
payloads follows public readers of such files. Times are µs, given as such, and stored as ns.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

SCHEMA = """
CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT);
CREATE TABLE TARGET_INFO_SYSTEM_ENV (globalVid INTEGER, devStateName TEXT, name TEXT, value TEXT);
CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER, utcTime TEXT, localTime TEXT);
CREATE TABLE ThreadNames (nameId INTEGER NOT NULL, priority INTEGER, globalTid INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (
    start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER,
    correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (
    start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER,
    globalPid INTEGER, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL,
    graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (
    start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER,
    globalPid INTEGER, bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL);
CREATE TABLE NVTX_EVENTS (
    start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER,
    category INTEGER, color INTEGER, text TEXT, globalTid INTEGER, endGlobalTid INTEGER,
    textId INTEGER, domainId INTEGER, uint64Value INTEGER, int64Value INTEGER, doubleValue REAL,
    uint32Value INTEGER, int32Value INTEGER, floatValue REAL, jsonTextId INTEGER, jsonText TEXT,
    binaryData BLOB);
CREATE TABLE NVTX_PAYLOAD_SCHEMAS (
    domainId INTEGER, schemaId INTEGER, name TEXT, type INTEGER, flags INTEGER,
    numEntries INTEGER, payloadSize INTEGER, alignTo INTEGER);
CREATE TABLE NVTX_PAYLOAD_SCHEMA_ENTRIES (
    domainId INTEGER NOT NULL, schemaId INTEGER NOT NULL, idx INTEGER NOT NULL, flags INTEGER,
    type INTEGER, name TEXT, description TEXT, arrayOrUnionDetail INTEGER, offset INTEGER);
"""
EPOCH = 1_790_000_000_000_000_000
NCCL_DOMAIN = 3
_JOIN, _COLLECTIVE, _MESSAGE = 101, 102, 103
_FIELDS = (
    (_JOIN, 18, "NCCL communicator ID", None),
    (_JOIN, 5, "No. of ranks", 8),
    (_JOIN, 5, "Rank", 12),
    (_JOIN, 5, "CUDA device", 16),
    (_COLLECTIVE, 18, "NCCL communicator ID", None),
    (_COLLECTIVE, 22, "Message size [bytes]", 8),
    (_MESSAGE, 18, "NCCL communicator ID", None),
    (_MESSAGE, 22, "Message size [bytes]", 8),
    (_MESSAGE, 5, "Peer rank", 16),
)


class Export:
    """One export to be filled; a context manager."""

    def __init__(self, path: Path, *, host: str = "node0", epoch: int | None = EPOCH) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.executescript(SCHEMA)
        self._correlation = 0
        self._words: dict[str, int] = {}
        self.insert("META_DATA_EXPORT", name="EXPORT_PRODUCT_VERSION", value="2026.1.1")
        self.insert("TARGET_INFO_SYSTEM_ENV", name="Hostname", value=host)
        if epoch is not None:
            self.insert("TARGET_INFO_SESSION_START_TIME", utcEpochNs=epoch)
        for index, (schema, type_, name, offset) in enumerate(_FIELDS):
            self.insert(
                "NVTX_PAYLOAD_SCHEMA_ENTRIES",
                domainId=NCCL_DOMAIN,
                schemaId=schema,
                idx=index,
                type=type_,
                name=name,
                offset=offset,
            )

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.commit()
        self.connection.close()

    def insert(self, table: str, **values: object) -> None:
        """One row; columns that are not given are null."""
        names = ", ".join(f'"{name}"' for name in values)
        places = ", ".join("?" * len(values))
        self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(values.values())
        )

    def word(self, text: str) -> int:
        """Its id in StringIds."""
        if text not in self._words:
            self._words[text] = len(self._words) + 1
            self.insert("StringIds", id=self._words[text], value=text)
        return self._words[text]


class Process:
    """One process of an export; `tid` is its main thread unless another is named."""

    def __init__(self, export: Export, pid: int, device: int) -> None:
        self.export = export
        self.pid = pid
        self.device = device
        self.number = (0x1000 << 48) | (pid << 24)
        self.tid = self.number | pid

    def nccl_domain(self) -> None:
        """NCCL makes its NVTX domain when it is first used."""
        self._nvtx(0, 0, 75, text="NCCL", domainId=NCCL_DOMAIN)

    def range(self, name: str, start: int, end: int, thread: int | None = None) -> None:
        """An NVTX range, its text in the row as torch's are."""
        self._nvtx(start, end, 59, thread, text=name, domainId=0)

    def joins(self, communicator: int, rank: int, ranks: int) -> None:
        """ncclCommInitRank, with its payload."""
        payload = struct.pack("<Qiiii", communicator, ranks, rank, self.device, 0)
        self._nccl("ncclCommInitRank", 1, 2, _JOIN, payload)

    def calls(
        self, name: str, start: int, end: int, communicator: int, size: int, peer: int | None = None
    ) -> None:
        """A call of NCCL, with its payload."""
        payload = struct.pack("<QQ", communicator, size)
        if peer is not None:
            payload += struct.pack("<ii", peer, 0)
        self._nccl(name, start, end, _COLLECTIVE if peer is None else _MESSAGE, payload)

    def kernel(
        self,
        name: str,
        launched: int,
        start: int,
        end: int,
        *,
        stream: int = 7,
        thread: int | None = None,
    ) -> None:
        """A kernel, and the call of CUDA, 1 µs long, that launched it."""
        self.export.insert(
            "CUPTI_ACTIVITY_KIND_KERNEL",
            start=start * 1000,
            end=end * 1000,
            deviceId=self.device,
            contextId=1,
            streamId=stream,
            correlationId=self._launch(launched, "cudaLaunchKernel_v7000", thread),
            globalPid=self.number,
            demangledName=self.export.word(
                f"{name}(ncclDevKernelArgsStorage<4096>)"
                if name.startswith("nccl")
                else f"void {name}<float>(int)"
            ),
            shortName=self.export.word(name),
        )

    def copy(self, launched: int, start: int, end: int, size: int) -> None:
        """A copy to the device."""
        self.export.insert(
            "CUPTI_ACTIVITY_KIND_MEMCPY",
            start=start * 1000,
            end=end * 1000,
            deviceId=self.device,
            contextId=1,
            streamId=7,
            correlationId=self._launch(launched, "cudaMemcpyAsync_v3020", None),
            globalPid=self.number,
            bytes=size,
            copyKind=1,
        )

    def thread(self, tid: int, name: str) -> int:
        """Another thread, named."""
        thread = self.number | tid
        self.export.insert("ThreadNames", nameId=self.export.word(name), globalTid=thread)
        return thread

    def _launch(self, at: int, name: str, thread: int | None) -> int:
        self.export._correlation += 1
        self.export.insert(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=at * 1000,
            end=at * 1000 + 1000,
            eventClass=0,
            globalTid=thread or self.tid,
            correlationId=self.export._correlation,
            nameId=self.export.word(name),
            returnValue=0,
        )
        return self.export._correlation

    def _nccl(self, name: str, start: int, end: int, schema: int, payload: bytes) -> None:
        header = struct.pack("<QQQQ", NCCL_DOMAIN, schema, len(payload), 32 + len(payload))
        self._nvtx(
            start,
            end,
            59,
            textId=self.export.word(name),
            domainId=NCCL_DOMAIN,
            binaryData=header + payload,
        )

    def _nvtx(
        self, start: int, end: int, type_: int, thread: int | None = None, **values: object
    ) -> None:
        self.export.insert(
            "NVTX_EVENTS",
            start=start * 1000,
            end=end * 1000,
            eventType=type_,
            globalTid=thread or self.tid,
            **values,
        )

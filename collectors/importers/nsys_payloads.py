"""What NCCL says of its operations in NVTX: the communicator, its ranks, sizes and peers.

NCCL attaches a structure to each of its ranges (src/include/nvtx_payload_schemas.h of NCCL), whose
fields the tables NVTX_PAYLOAD_SCHEMAS and NVTX_PAYLOAD_SCHEMA_ENTRIES name. The structure itself is
in the column `binaryData` of NVTX_EVENTS after a header of four 64-bit numbers: domain, schema,
size, total size. NVIDIA does not document that header; it is what public readers of these files
found. A payload that does not fit is not believed.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from collectors.importers.nsys_database import NsysDatabase

COMMUNICATOR: Final = "NCCL communicator ID"
SIZE: Final = "Message size [bytes]"
PEER: Final = "Peer rank"
RANK: Final = "Rank"
RANKS: Final = "No. of ranks"
_WANTED: Final = frozenset({COMMUNICATOR, SIZE, PEER, RANK, RANKS})

_HEADER: Final = struct.Struct("<QQQQ")
_TYPES: Final = {
    5: "<i",
    6: "<I",
    15: "<i",
    16: "<I",
    7: "<q",
    8: "<Q",
    9: "<q",
    10: "<Q",
    17: "<q",
    18: "<Q",
    22: "<Q",
}
"""Entry types of the NVTX payload extension that NCCL uses: int, 32 and 64 bits, size_t
(nvToolsExtPayload.h of NVTX)."""
_HALF: Final = (1 << 32) - 1
_LONGEST_JSON: Final = 4096


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    format: str
    offset: int


class Payloads:
    """The layouts of one export's payloads."""

    def __init__(self, database: NsysDatabase) -> None:
        self._fields: dict[tuple[int, int], list[_Field]] = defaultdict(list)
        wanted = ("domainId", "schemaId", "type", "name", "offset")
        if not database.has("NVTX_PAYLOAD_SCHEMA_ENTRIES", *wanted):
            return
        for domain, schema, type_, name, offset in database.rows(
            "NVTX_PAYLOAD_SCHEMA_ENTRIES", wanted
        ):
            offset = 0 if offset is None else offset  # the first entry has none
            known = type(type_) is int and type_ in _TYPES and type(offset) is int and offset >= 0
            if known and name in _WANTED:
                self._fields[domain, schema].append(_Field(name, _TYPES[type_], offset))

    def read(self, binary: Any, text: Any) -> dict[str, int]:
        """The fields that matter, by NCCL's names for them; empty where there is no payload."""
        if isinstance(text, str) and len(text) <= _LONGEST_JSON:
            return _of_json(text)
        if isinstance(binary, str):
            try:
                binary = bytes.fromhex(binary)
            except ValueError:
                return {}
        if not isinstance(binary, bytes) or len(binary) < _HEADER.size:
            return {}
        domain, schema, size, _ = _HEADER.unpack_from(binary)
        payload = binary[_HEADER.size :]
        if size > len(payload):
            return {}
        half = domain & _HALF, schema & _HALF  # the upper halves may be flags
        fields = self._fields.get((domain, schema)) or self._fields.get(half, [])
        return {
            field.name: struct.unpack_from(field.format, payload, field.offset)[0]
            for field in fields
            if field.offset + struct.calcsize(field.format) <= size
        }


def _of_json(text: str) -> dict[str, int]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in _WANTED if type(found.get(name)) is int}

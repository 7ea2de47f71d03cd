"""Where the files of a run lie: a directory, or a prefix of an object store (`s3://bucket/run`).

Stores are reached through `pyarrow.fs`: s3, gs, abfs and hdfs, and everything that fsspec knows as
`fsspec+PROTOCOL://`. An address may carry options (`s3://bucket/run?endpoint_override=…`);
credentials, region and endpoint are best left to the environment, as for any other program.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from dashboard.runs.caches import Fingerprint
from tracer.errors import TraceError, UsageError
from tracer.text import plain_text

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_URI: Final = re.compile(r"[a-z][a-z0-9+.-]+://")
_SQUEEZED: Final = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")
"""What `pathlib` makes of an address."""
_ANY_REGION: Final = "us-east-1"
"""Stores of one's own (MinIO, Ceph) have no regions, but every request names one."""
_ENDPOINTS: Final = ("endpoint_override", "blob_storage_authority", "dfs_storage_authority")
"""Options of an address that say which service is meant (pyarrow.fs: S3, GCS, Azure)."""
_S3_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables that say it of s3 where the address does not; the first one that is set counts."""
_COPY_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Store:
    """A directory of files.

    location: as the user gave it, with its options; it opens the store again elsewhere.
    directory: the path, where it is one of this machine; else None.
    """

    location: str
    directory: Path | None
    _files: pafs.FileSystem = field(repr=False, compare=False)
    _root: str = field(repr=False)

    def __str__(self) -> str:
        return shown(self.location)

    @property
    def place(self) -> str:
        """The same for all ways to spell it: without links and dots of a path, options of an
        address that do not say which service is meant, and credentials.
        """
        return place_of(self.location) if self.directory is None else os.path.realpath(self._root)

    @property
    def name(self) -> str:
        """Its last part: the name of the run."""
        return self._root.rstrip("/").rpartition("/")[2]

    def names(self) -> Fingerprint:
        """The files in it; nothing where there is no such directory.

        Raises:
            TraceError: the store cannot be read.
        """
        import pyarrow.fs as pafs  # where it is needed: opening a directory does without

        with self._explained():
            chosen = pafs.FileSelector(self._root, allow_not_found=True)
            found = self._files.get_file_info(chosen)
        files = [info for info in found if info.is_file and not info.base_name.startswith(".")]
        return {
            info.base_name: [info.size, info.mtime_ns or 0] for info in sorted(files, key=_name)
        }

    def open(self, name: str) -> pa.NativeFile:
        """A file, for reading parts of it.

        Raises:
            FileNotFoundError: there is none.
            TraceError: the store cannot be read.
        """
        with self._explained(name):
            return self._files.open_input_file(self._at(name))

    def read(self, name: str) -> bytes:
        """All of a file; raises as `open`."""
        with self._explained(name), self._files.open_input_file(self._at(name)) as file:
            content: bytes = file.read()
            return content

    def pieces(self, name: str) -> Iterator[bytes]:
        """All of a file, a few MB at a time; raises as `open`."""
        with self._explained(name), self._files.open_input_file(self._at(name)) as file:
            while piece := file.read(_COPY_BYTES):
                yield piece

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to be written, which has its name only when it is whole.

        Raises:
            TraceError: the store cannot be written to.
        """
        part = self._at(f".{name}.{secrets.token_hex(8)}.part")
        with self._explained(name):
            self._files.create_dir(self._root, recursive=True)
            try:
                with self._files.open_output_stream(part) as file:
                    yield file
                self._files.move(part, self._at(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    self._files.delete_file(part)
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a small file at once; raises as `writing`."""
        with self.writing(name) as file:
            file.write(content)

    def copy_to(
        self, name: str, other: Store, *, advance: Callable[[int], object] = lambda count: None
    ) -> None:
        """Copy a file under the same name into another store; `advance` is told of bytes.

        Raises:
            FileNotFoundError: there is none.
            TraceError: a store cannot be read or written to.
        """
        with other.writing(name) as target:
            for piece in self.pieces(name):
                target.write(piece)
                advance(len(piece))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:  # Azure's are of Arrow's, "Unknown error"
            where = f"{self}/{name}" if name else str(self)
            raise TraceError(f"{where}: {_why(error)}{self._mend()}") from error

    def _mend(self) -> str:
        if self.directory is not None:
            return ""
        if self.location.startswith("s3:"):
            return (
                "; check the address, the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) and, "
                "for a store of your own, AWS_ENDPOINT_URL"
            )
        return "; check the address and the credentials"


def is_address(location: object) -> bool:
    """Whether it names a place on an object store rather than a path."""
    return isinstance(location, str) and _URI.match(location) is not None


def location_of(said: str | os.PathLike[str]) -> str | Path:
    """An address as text, anything else as a path. An address that went through `pathlib`, which
    makes one slash of two, is put right.
    """
    text = os.fspath(said)
    if is_address(text):
        return text
    squeezed = _SQUEEZED.match(text)
    if squeezed is not None and not os.path.exists(text):
        return f"{squeezed[1]}://{text[squeezed.end() :]}"
    return Path(text)


def store_at(location: str | os.PathLike[str]) -> Store:
    """The store at an address or path.

    Raises:
        UsageError: the address makes no sense, or pyarrow cannot reach such stores.
        TraceError: the store cannot be reached.
    """
    import pyarrow.fs as pafs

    said = location_of(location)
    if isinstance(said, Path):
        path = Path(os.path.abspath(said))
        return Store(str(said), path, pafs.LocalFileSystem(), str(path))
    try:
        files, root = pafs.FileSystem.from_uri(_with_region(said))
    except (pa.ArrowException, ValueError, ImportError, TypeError) as error:
        raise UsageError(
            f"{shown(said)}: {_why(error)}; name a directory, s3://BUCKET/RUN, gs://BUCKET/RUN, "
            "abfs://CONTAINER/RUN or fsspec+PROTOCOL://…"
        ) from error
    except OSError as error:
        raise TraceError(f"{shown(said)}: {_why(error)}") from error
    if isinstance(files, pafs.LocalFileSystem):
        return Store(root, Path(root), files, root)
    if not root.strip("/"):
        scheme = said.partition("://")[0]
        raise UsageError(f"{scheme}://: names no bucket; write s3://BUCKET/RUN")
    return Store(said, None, files, root)


def shown(location: str) -> str:
    """An address without options and credentials, as it may be printed; a path as it is."""
    if not is_address(location):
        return location
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip(
        "/"
    )


def place_of(location: str) -> str:
    """What tells an address from the same one at another endpoint; without credentials."""
    parts = urlsplit(location)
    named = [(key, value) for key, value in parse_qsl(parts.query) if key in _ENDPOINTS]
    if parts.scheme == "s3" and not named:
        own = (os.environ.get(name) for name in _S3_ENDPOINTS)
        named = [(_ENDPOINTS[0], value) for value in own if value][:1]
    named = [(key, _endpoint(value)) for key, value in named]
    return "?".join(filter(None, (shown(location), urlencode(sorted(named)))))


def _endpoint(said: str) -> str:
    """`http://LOCALHOST:9000/` and `localhost:9000` → `localhost:9000`"""
    return said.rpartition("://")[2].rstrip("/").lower()


def _with_region(address: str) -> str:
    """Without a region pyarrow asks Amazon for that of the bucket, which a store of one's own does
    not have.
    """
    own = any(name in os.environ for name in _S3_ENDPOINTS)
    named = "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ
    parts = urlsplit(address)
    if parts.scheme != "s3" or not own or named or "region=" in parts.query:
        return address
    query = "&".join(filter(None, (parts.query, urlencode({"region": _ANY_REGION}))))
    return urlunsplit(parts._replace(query=query))


def _name(info: pafs.FileInfo) -> str:
    name: str = info.base_name
    return name


def _why(error: BaseException) -> str:
    return plain_text(next(iter(str(error).splitlines()), type(error).__name__))

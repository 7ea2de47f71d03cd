"""What the JSON files of a run say: who recorded it, where, with which settings and versions."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tracer import environment
from tracer.errors import UsageError
from tracer.json_values import number, strict_json
from tracer.recorder import Recorder
from tracer.run_files import RankFacts, RunMeta, write_run_meta
from tracer.topology import Topology


class AboutTheRun:
    """Gathered on this rank while it records.

    Raises:
        UsageError: `config` cannot be JSON, or a value of `link_peaks` cannot be a bandwidth.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        config: Mapping[str, Any] | None,
        link_peaks: Mapping[str, float] | None,
    ) -> None:
        self.run_id = ""
        self.topology = Topology(rank=0, world_size=1)
        self._recorder = recorder
        self._config = _json_copy("config", config)
        self._link_peaks = _peaks(link_peaks)
        self._created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._device = "cpu"

    def look_at_device(self) -> None:
        """Asked on the training's own thread, since each thread has a current device of its own."""
        if self._device == "cpu":
            self._device = environment.device()

    @cached_property
    def _host(self) -> tuple[str, str]:
        """Name and boot of this host, which stay as they are: every flush looks at the facts."""
        return socket.gethostname(), environment.boot_id()

    def rank(self, *, keep_last: int) -> RankFacts:
        """What is known of this rank by now; `keep_last` is that of a black box, or 0."""
        topology = self.topology
        return RankFacts(
            rank=topology.rank,
            run_id=self.run_id,
            host=self._host[0],
            boot_id=self._host[1],
            pid=os.getpid(),
            device=self._device,
            coordinates=topology.coordinates,
            stages=tuple(sorted(topology.stages)),
            groups=topology.group_facts,
            dropped=self._recorder.dropped,
            keep_last=keep_last,
            unseen=self._recorder.unseen,
            world_size=topology.world_size,
        )

    def write_meta(self, path: Path) -> None:
        """Write `run.json` into the run directory `path`, on rank 0."""
        if self.topology.rank == 0:
            write_run_meta(
                path,
                RunMeta(
                    run_id=self.run_id,
                    world_size=self.topology.world_size,
                    created=self._created,
                    mesh=self.topology.mesh,
                    schedule=self.topology.schedule,
                    config=self._config,
                    versions=environment.versions(),
                    link_peaks=self._link_peaks,
                ),
            )


def _peaks(given: Mapping[str, float] | None) -> dict[str, float]:
    try:
        return {str(dim): number(float(gbps)) for dim, gbps in (given or {}).items()}
    except Exception as error:  # of whatever there is in place of numbers
        raise UsageError(
            f"link_peaks must give GB/s by mesh dimension, as in {{'tp': 450.0}}: {error}"
        ) from error


def _json_copy(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy that later changes cannot reach; what JSON does not know becomes text."""
    try:
        copied: dict[str, Any] = json.loads(strict_json(dict(given or {})))
    except Exception as error:  # nested without end, or of a value that cannot be told as text
        raise UsageError(f"{name} must be a mapping of JSON values: {error}") from error
    return copied

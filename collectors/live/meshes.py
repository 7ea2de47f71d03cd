"""A hook on `DeviceMesh`, so that a run knows its mesh without being told."""

from __future__ import annotations

from typing import Any

from torch.distributed.device_mesh import DeviceMesh

from collectors.live.patches import Patches
from tracer.recorder import Recorder
from tracer.topology import Topology


class Meshes:
    """Notes every device mesh with named dimensions that the training makes."""

    covers = "torch.distributed.device_mesh: names, shape and coordinates"

    def __init__(self) -> None:
        self._patches = Patches()

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Hook the constructor."""

        def wrap(original: Any) -> Any:
            def traced(mesh: Any, *args: Any, **kwargs: Any) -> None:
                original(mesh, *args, **kwargs)
                try:
                    topology.note_mesh(mesh)
                except Exception as error:
                    recorder.fault(error)

            return traced

        self._patches.replace(DeviceMesh, "__init__", wrap)

    def uninstall(self) -> None:
        """Put the constructor back."""
        self._patches.restore()

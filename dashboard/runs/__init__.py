"""Read runs: files in, from a disk or an object store, one `Recording` on one clock out."""

from collectors.memory_pool import load_arrow

load_arrow()

from dashboard.runs.open import open_recording  # noqa: E402
from dashboard.runs.opening import open_anywhere  # noqa: E402
from dashboard.runs.problems import Problem  # noqa: E402
from dashboard.runs.recording import Recording  # noqa: E402

__all__ = ["Problem", "Recording", "open_anywhere", "open_recording"]

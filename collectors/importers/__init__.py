"""Read other tools' recordings into our format: one file per format, named in `IMPORTERS`."""

from collectors.memory_pool import load_arrow

load_arrow()

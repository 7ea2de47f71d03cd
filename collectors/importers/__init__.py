"""Read other tools' recordings into our format: one file per format, named in `IMPORTERS`."""

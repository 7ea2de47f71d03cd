"""A run in other tools' formats: one file per format, named in `formats.EXPORTERS`."""

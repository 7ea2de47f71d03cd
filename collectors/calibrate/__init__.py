"""Measure the links of a run: its groups, each operation, by message size (`__main__`)."""

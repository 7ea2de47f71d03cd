"""A run as a whole: its summary, its findings, and what does not fit together in it."""

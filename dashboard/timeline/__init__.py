"""The timeline's data: lanes of non-overlapping rows, and what of them a window can show."""

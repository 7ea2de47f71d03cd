"""Who holds the others up, and since when."""

"""Two runs or many, side by side, and how far their differences can be trusted."""

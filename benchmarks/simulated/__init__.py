"""Large runs made from the statistics of a recorded one; benchmarks.generate is its command."""

"""Measures Roster against itself, against bare processes and against its peers: `python -m benchmarks`."""

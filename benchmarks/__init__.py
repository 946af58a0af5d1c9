"""Measure Roster against bare processes, bare Ray Serve and other model servers: `python -m benchmarks`."""

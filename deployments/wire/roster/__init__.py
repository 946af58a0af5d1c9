"""Roster's own protocol: the index, health checks, statistics, and the documentation of every dialect."""

"""Roster's own protocol: the index, health, figures, and the documentation of every dialect."""

"""Calls from a Router to a replica over one TCP connection: its messages and its two ends."""

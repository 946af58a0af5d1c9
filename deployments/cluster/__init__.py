"""Ray underneath: its environment, its nodes, warm workers, and every use of its private API."""

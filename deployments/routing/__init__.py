"""A request's way to a model: validation, the choice of a replica, deadlines, retries and shared calls."""

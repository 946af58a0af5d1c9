"""One loaded model: the Serve replica, its batches and its streams."""

"""What Routers count of each model's requests."""

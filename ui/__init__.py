"""The page: a tab per task that has a ready model, a form and a view read off the task's schema."""

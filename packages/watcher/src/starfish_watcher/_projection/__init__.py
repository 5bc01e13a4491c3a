"""States that follow from events."""

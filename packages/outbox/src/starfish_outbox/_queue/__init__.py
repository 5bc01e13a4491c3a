"""The queue itself: entries, what can happen to them, and the order in which it happens."""

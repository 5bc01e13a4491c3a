"""Where events are kept: the seam `EventLog` and the logs behind it."""

"""From a configuration to routes in a FastAPI application."""

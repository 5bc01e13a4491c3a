"""From a configuration to routes in a FastAPI application."""

__all__ = ()

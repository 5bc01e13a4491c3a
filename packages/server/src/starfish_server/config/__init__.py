"""What a server serves: its models, and how a file becomes one that can be served."""

from starfish_server.config.path_template import PathTemplate

__all__ = ("PathTemplate",)

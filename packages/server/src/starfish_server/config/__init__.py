"""What a server serves: its models, and how a file becomes one that can be served."""

from starfish_server.config.likely_mistakes import config_warnings
from starfish_server.config.loader import load_config, parse_config
from starfish_server.config.path_template import PathTemplate
from starfish_server.config.validate import validate_config

__all__ = ("PathTemplate", "config_warnings", "load_config", "parse_config", "validate_config")

"""What a server serves: its models, and how a file becomes one that can be served."""

from starfish_server.config._likely_mistakes import config_warnings
from starfish_server.config._loader import load_config, parse_config
from starfish_server.config._path_template import PathTemplate
from starfish_server.config._validate import validate_config

__all__ = ("PathTemplate", "config_warnings", "load_config", "parse_config", "validate_config")

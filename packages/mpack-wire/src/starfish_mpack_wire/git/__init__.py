"""From git and back; needs the extra ``git``."""

try:
    import dulwich as _dulwich  # noqa: F401 - only to say what is missing
except ImportError as error:
    message = 'starfish_mpack_wire.git needs the extra git: pip install "starfish-mpack-wire[git]"'
    raise ImportError(message) from error

from starfish_mpack_wire.git.exporting import ExportResult, export_git
from starfish_mpack_wire.git.importing import ImportResult, import_git

__all__ = ("ExportResult", "ImportResult", "export_git", "import_git")

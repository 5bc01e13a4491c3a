"""From git and back; needs the extra ``git``."""

try:
    from starfish_mpack_wire.git._exporting import ExportResult, export_git
    from starfish_mpack_wire.git._importing import ImportResult, import_git
except ImportError as error:
    if error.name is not None and not error.name.startswith("dulwich"):
        raise
    message = 'starfish_mpack_wire.git needs the extra git: pip install --find-links dist "starfish-mpack-wire[git]"'
    raise ImportError(message) from error

__all__ = ("ExportResult", "ImportResult", "export_git", "import_git")

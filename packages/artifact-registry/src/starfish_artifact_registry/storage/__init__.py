"""Where content lives: a folder, or an object store."""

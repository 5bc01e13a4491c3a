"""Values of a history: ids, records, paths, names of refs, trees of snapshots. Nothing here does I/O."""

"""A folder whose history is in its ``.mpack`` folder: status, commit, checkout."""

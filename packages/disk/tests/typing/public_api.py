"""Read by the type checkers as a user's program would be; not run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from starfish_disk import Place, hold_lock, new_file, replace_file, sweep_leftovers

replace_file("settings.json", b"{}", mode=0o640)
with hold_lock(Path("lock"), timeout_s=1.5, shared=True):
    with new_file("folder") as file:
        file.write(memoryview(b"bytes"))
        assert_type(file.path, Path)
        file.publish("name", replace=False)
    assert_type(sweep_leftovers("folder"), int)
assert_type(Place("folder").is_known(), bool)

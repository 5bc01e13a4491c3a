"""Name the place of a value inside a document."""

from __future__ import annotations

import json
from collections.abc import Iterable

__all__ = ("path_text",)


_ENDS = 100


def path_text(steps: Iterable[str | int]) -> str:
    """Write object keys and list positions as one path; ``$`` is the document.

    A path longer than 200 characters loses its middle: it ends up in error messages and logs.

    Examples:
        >>> path_text([]), path_text(["items", 3, "due date"])
        ('$', '$.items[3]["due date"]')
    """
    path = "$" + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
        for step in steps
    )
    return path if len(path) <= 2 * _ENDS else f"{path[:_ENDS]}\u2026{path[-_ENDS:]}"

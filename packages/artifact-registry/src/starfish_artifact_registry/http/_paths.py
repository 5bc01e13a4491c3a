"""The path of a file inside a package, as it stands in a URL."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from typing_extensions import override

from starfish_artifact_registry.errors import InvalidRelativePathError

__all__ = ("RELATIVE_PATH", "check_path_encoding")

RELATIVE_PATH = "starfish_relative_path"
"""Name of the converter: all the rest of a path."""


class _RelativePathConvertor(Convertor[str]):
    """Line breaks included, which Starlette's own leaves out: they are judged, not overlooked."""

    regex = r"(?s:.*)"

    @override
    def convert(self, value: str) -> str:
        return value

    @override
    def to_string(self, value: str) -> str:
        return value


register_url_convertor(RELATIVE_PATH, _RelativePathConvertor())


def check_path_encoding(request: Request, relative_path: str) -> None:
    """Refuse percent-encoded bytes that are not UTF-8.

    The server has put U+FFFD in their place, so that different names would become one.

    Raises:
        InvalidRelativePathError: the path of the URL is not text.
    """
    try:
        unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        raise InvalidRelativePathError(relative_path, "it is not UTF-8") from None

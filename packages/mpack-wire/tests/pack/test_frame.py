"""Frames: a function of the content, and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given

from starfish_mpack_wire import MPackFormatError
from starfish_mpack_wire._pack.frame import compress, decompress
from starfish_mpack_wire.testing.strategies import contents


@given(content=contents())
@example(content=b"")
def test_what_was_compressed_comes_back_and_has_the_declared_length(content: bytes) -> None:
    frame = compress(content)

    assert frame == compress(memoryview(content))
    assert decompress(frame, len(content)) == content
    for length in {max(len(content) - 1, 0), len(content) + 1} - {len(content)}:
        with pytest.raises(MPackFormatError):
            decompress(frame, length)

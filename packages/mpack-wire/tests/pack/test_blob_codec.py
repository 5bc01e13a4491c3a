"""Frames: a function of the content, whatever was compressed before."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_mpack_wire import MPackFormatError
from starfish_mpack_wire.pack.blob_codec import BlobCompressor, decompress
from starfish_mpack_wire.testing.strategies import contents


def test_a_compressor_that_was_used_gives_the_bytes_of_a_new_one() -> None:
    rng = random.Random(7)
    used = BlobCompressor()

    for _ in range(400):
        words = [rng.randbytes(rng.randint(1, 30)) for _ in range(20)]
        content = b"".join(rng.choices(words, k=int(2 ** rng.uniform(2, 14))))
        base = rng.choice([None, content[: len(content) // 2]])

        assert used.compress(content, base) == BlobCompressor().compress(content, base)


@given(content=contents(), base=st.one_of(st.none(), contents()))
@example(content=bytes(100), base=b"")
@example(content=bytes(100), base=b"short")  # zstd takes no prefix of less than eight bytes
def test_what_was_compressed_comes_back_and_is_smaller(content: bytes, base: bytes | None) -> None:
    if base is not None and 0 < len(base) < 8:
        with pytest.raises(MPackFormatError):
            decompress(b"", len(content), base)
        return

    frame = BlobCompressor().compress(content, base)

    if frame is not None:
        assert len(frame) < len(content)
        assert decompress(frame, len(content), base) == content
        for length in (len(content) - 1, len(content) + 1):
            with pytest.raises(MPackFormatError):
                decompress(frame, length, base)


def test_content_that_does_not_become_smaller_is_stored_as_it_is() -> None:
    noise = random.Random(1).randbytes(1000)

    assert BlobCompressor().compress(noise, None) is None
    assert BlobCompressor().compress(b"a" * 31, None) is None
    assert BlobCompressor().compress(noise, noise) is not None

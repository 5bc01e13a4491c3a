import hashlib
import multiprocessing
import os
import sys
import threading

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.address import ContentAddress, MultiHasher
from starfish_protocol.errors import AddressError, DigestMismatchError, StarfishError

addresses = st.builds(
    ContentAddress, st.sampled_from(["blake3", "sha256"]), st.binary(min_size=32, max_size=32)
)
EMPTY_SHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY_BLAKE3 = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", EMPTY_SHA256),
        (b"", EMPTY_BLAKE3),
        (b"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"abc", "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    ],
)
def test_known_addresses(data, text):
    algorithm = text.partition(":")[0]

    assert str(ContentAddress.of(data, algorithm)) == text


def test_blake3_is_the_default():
    assert str(ContentAddress.of(b"")) == EMPTY_BLAKE3


@given(address=addresses)
def test_an_address_survives_its_text(address):
    assert ContentAddress.parse(str(address)) == address
    assert hash(ContentAddress.parse(str(address))) == hash(address)


@given(some=st.lists(addresses))
def test_addresses_sort_as_their_texts_do(some):
    assert [str(address) for address in sorted(some)] == sorted(str(address) for address in some)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        EMPTY_SHA256 + "\n",
        "\n" + EMPTY_SHA256,
        " " + EMPTY_SHA256,
        EMPTY_SHA256 + "0",
        EMPTY_SHA256[:-1],
        EMPTY_SHA256.upper(),
        "SHA256:" + EMPTY_SHA256[7:],
        "sha256:" + EMPTY_SHA256[7:].upper(),
        "md5:" + EMPTY_SHA256[7:],
        EMPTY_SHA256[7:],
        EMPTY_SHA256.replace(":", "-"),
        EMPTY_SHA256.replace("e3b0", "٣3b0"),
        EMPTY_SHA256.replace("e3b0", "g3b0"),
        "x" * 10_000,
        b"sha256:" + b"0" * 64,
        None,
        5,
    ],
    ids=range(19),
)
def test_any_other_text_is_refused(text):
    with pytest.raises(AddressError, match="is not an address; it must be <algorithm>:") as refusal:
        ContentAddress.parse(text)

    assert len(str(refusal.value)) < 250
    assert isinstance(refusal.value, StarfishError)
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("sha256", b""),
        ("sha256", bytes(31)),
        ("sha256", bytes(33)),
        ("blake3", "0" * 64),
        ("blake3", bytearray(32)),
        ("blake3", None),
        ("md5", bytes(32)),
        ("SHA256", bytes(32)),
        ("", bytes(32)),
        (None, bytes(32)),
        ([], bytes(32)),
    ],
    ids=range(11),
)
def test_an_address_that_cannot_be_is_not_made(algorithm, digest):
    with pytest.raises(AddressError):
        ContentAddress(algorithm, digest)


def test_an_address_does_not_change():
    address = ContentAddress.of(b"")

    with pytest.raises(AttributeError):
        address.digest = bytes(32)


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_verify_tells_the_two_addresses(algorithm):
    address = ContentAddress.of(b"right", algorithm)

    assert address.verify(b"right") is None
    with pytest.raises(DigestMismatchError) as mismatch:
        address.verify(b"wrong")
    assert mismatch.value.expected == address
    assert mismatch.value.actual == ContentAddress.of(b"wrong", algorithm)
    assert str(mismatch.value) == f"content is {mismatch.value.actual}, expected {address}"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_bytes_may_come_in_any_buffer(kind, algorithm):
    assert ContentAddress.of(kind(b"abc"), algorithm) == ContentAddress.of(b"abc", algorithm)


@pytest.mark.parametrize("algorithm", ["md5", "", None])
def test_an_unknown_algorithm_is_refused(algorithm):
    with pytest.raises(
        AddressError, match="is not an algorithm of an address; it must be one of blake3, sha256"
    ):
        ContentAddress.of(b"", algorithm)
    with pytest.raises(
        AddressError, match="is not an algorithm of an address; it must be one of blake3, sha256"
    ):
        MultiHasher(["sha256", algorithm])


def test_a_hasher_without_algorithms_is_refused():
    with pytest.raises(AddressError, match="no algorithm named"):
        MultiHasher(())


@given(chunks=st.lists(st.binary(max_size=3000)))
def test_the_cut_into_chunks_does_not_matter(chunks):
    hasher = MultiHasher(("sha256", "blake3"))
    for chunk in chunks:
        hasher.update(chunk)
        hasher.addresses()

    whole = b"".join(chunks)
    assert hasher.addresses() == {
        "sha256": ContentAddress("sha256", hashlib.sha256(whole).digest()),
        "blake3": ContentAddress("blake3", blake3(whole).digest()),
    }
    assert list(hasher.addresses()) == ["sha256", "blake3"]


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_other_threads_run_while_a_large_chunk_is_hashed(algorithm):
    hasher = MultiHasher([algorithm])
    chunk = bytes(16 * 1024 * 1024)
    start, ran = threading.Lock(), []
    start.acquire()

    def other():
        with start:
            ran.append(True)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody else runs unless this thread lets go of the GIL
    try:
        thread = threading.Thread(target=other)
        thread.start()
        start.release()
        ran_before = len(ran)
        for _ in range(1000):
            hasher.update(chunk)
            if ran:
                break
        ran_after = len(ran)
    finally:
        sys.setswitchinterval(interval)
    thread.join()

    assert (ran_before, ran_after) == (0, 1)


def _exit_with_the_outcome(data, expected):
    sys.exit(0 if ContentAddress.of(data) == expected else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_hashing_works_in_a_forked_child():
    data = bytes(4 * 1024 * 1024)
    expected = ContentAddress.of(data)

    child = multiprocessing.get_context("fork").Process(
        target=_exit_with_the_outcome, args=(data, expected)
    )
    child.start()
    child.join(20)
    hangs = child.is_alive()
    child.kill()
    child.join()

    assert not hangs
    assert child.exitcode == 0


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_a_slice_with_a_step_is_hashed_as_its_content(algorithm):
    every_second = memoryview(b"abcdef")[::2]
    hasher = MultiHasher((algorithm,))
    hasher.update(every_second)

    assert ContentAddress.of(every_second, algorithm) == ContentAddress.of(b"ace", algorithm)
    assert hasher.addresses()[algorithm] == ContentAddress.of(b"ace", algorithm)
    ContentAddress.of(b"ace", algorithm).verify(every_second)

"""Tokens: the file opens nothing, and a revoked or damaged entry grants nothing."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_server.auth.errors import TokenFileError
from starfish_server.auth.token_file import TokenFile


class Clock:
    at = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1000, tz=UTC)


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json", clock=Clock())


def test_a_token_finds_its_record_in_another_process(tokens: TokenFile) -> None:
    token = tokens.create("ada", roles=["staff"], name="laptop", expires_ms=Clock.at + 5)
    reader = TokenFile(tokens.path)

    assert reader.find(token) is None  # nothing was read yet
    assert reader.refresh()
    record = reader.find(token)
    assert record is not None
    assert (record.identity, record.roles, record.name) == ("ada", ["staff"], "laptop")
    assert (record.created, record.expires) == (Clock.at, Clock.at + 5)
    assert not record.is_expired(Clock.at + 4)
    assert record.is_expired(Clock.at + 5)


def test_the_file_holds_no_token_and_nobody_else_may_read_it(tokens: TokenFile) -> None:
    token = tokens.create("ada")

    content = tokens.path.read_text()
    assert token not in content
    assert token.removeprefix("sft_") not in content
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert len(token) == 47


def test_only_a_changed_file_is_read_again(tokens: TokenFile) -> None:
    token = tokens.create("ada")

    assert tokens.refresh()
    assert not tokens.refresh()
    assert TokenFile(tokens.path).revoke("ada")
    assert tokens.find(token) is not None
    assert tokens.refresh()
    assert tokens.find(token) is None
    assert not tokens.revoke("ada")


@given(st.text(max_size=60))
def test_what_is_no_token_finds_nothing(text: str) -> None:
    assert TokenFile("never-read").find(text) is None


def test_a_token_with_one_letter_changed_finds_nothing(tokens: TokenFile) -> None:
    token = tokens.create("ada")
    tokens.refresh()

    for index in range(len(token)):
        wrong = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        assert tokens.find(wrong) is None
    assert tokens.find(token) is not None


def test_names_are_unique_and_made_from_the_identity(tokens: TokenFile) -> None:
    for _ in range(3):
        tokens.create("ada")

    assert [record.name for record in tokens.records()] == ["ada", "ada-2", "ada-3"]
    with pytest.raises(TokenFileError, match="name 'ada-2' is taken"):
        tokens.create("bob", name="ada-2")
    assert len(tokens.records()) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"identity": ""}, "fits no path"),
        ({"identity": "a/b"}, "fits no path"),
        ({"identity": "a..b"}, "fits no path"),
        ({"identity": "ä"}, "fits no path"),
        ({"name": ""}, "it must be printable text"),
        ({"name": "a\n"}, "it must be printable text"),
        ({"roles": ["self"]}, "role 'self' is the server's to grant"),
        ({"roles": ["staff", "public"]}, "role 'public' is the server's to grant"),
        ({"roles": [""]}, "role '' is refused"),
        ({"expires_ms": Clock.at}, "the expiry is in the past"),
        ({"pubkey": "AB"}, "the public key is not an Ed25519 key"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused_and_nothing_is_written(
    tokens: TokenFile, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(TokenFileError, match=said):
        tokens.create(**{"identity": "ada", **fields})

    assert not tokens.path.exists()


RECORD = {"name": "a", "identity": "a", "roles": [], "hash": "0" * 64, "created": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"version": 2, "tokens": []}',
        '{"version": 1, "tokens": [{}]}',
        json.dumps({"version": 1, "tokens": [{**RECORD, "hash": "secret-hash"}]}),
        json.dumps({"version": 1, "tokens": [{**RECORD, "hash": "0" * 64 + "\n"}]}),
        json.dumps({"version": 1, "tokens": [{**RECORD, "role": "staff"}]}),
        json.dumps({"version": 1, "tokens": [{**RECORD, "expires": "2030"}]}),
    ],
)
def test_a_damaged_file_grants_nothing_and_is_not_overwritten(
    tokens: TokenFile, content: str
) -> None:
    token = tokens.create("ada")
    tokens.refresh()
    tokens.path.write_text(content)

    with pytest.raises(TokenFileError, match="damaged in") as caught:
        tokens.refresh()
    assert "secret-hash" not in str(caught.value)
    assert tokens.find(token) is None
    with pytest.raises(TokenFileError, match="damaged in"):
        tokens.create("bob")
    assert tokens.path.read_text() == content


def test_a_file_that_is_gone_grants_nothing_until_it_is_back(tokens: TokenFile) -> None:
    token = tokens.create("ada")
    tokens.refresh()
    content = tokens.path.read_bytes()
    tokens.path.unlink()

    with pytest.raises(TokenFileError, match="No such file"):
        tokens.refresh()
    assert tokens.find(token) is None
    assert tokens.records() == []
    tokens.path.write_bytes(content)
    assert tokens.refresh()
    assert tokens.find(token) is not None


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="No such file"):
        TokenFile(tmp_path / "none" / "tokens.json").create("ada")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tokens: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.create("ada")
    before = tokens.path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TokenFileError, match="No space left"):
        tokens.create("bob")

    assert tokens.path.read_bytes() == before
    assert sorted(each.name for each in tokens.path.parent.iterdir()) == [
        "tokens.json",
        "tokens.json.lock",
    ]


def test_processes_that_create_at_once_lose_no_token(tokens: TokenFile) -> None:
    code = (
        "import sys; from starfish_server.auth.token_file import TokenFile\n"
        "for _ in range(10): TokenFile(sys.argv[1]).create(sys.argv[2])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tokens.path), who]) for who in "ab"
    ]

    assert [process.wait(30) for process in processes] == [0, 0]
    records = tokens.records()
    assert len(records) == 20
    assert len({record.name for record in records}) == 20
    assert len({record.hash for record in records}) == 20

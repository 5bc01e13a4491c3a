from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path

import pytest

from starfish_http.callers import TokenFile
from starfish_http.errors import TokenFileError


class ManualClock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def now(self) -> object:
        raise NotImplementedError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_known_at_once_and_by_another_reader_of_the_file(path: Path) -> None:
    here, there = TokenFile(path), TokenFile(path)
    first = here.create("ada", roles=["staff"])
    assert there.identify(first) is not None

    second = here.create("eve")
    found = there.identify(second)

    assert found is not None
    assert found.identity == "eve"


def test_a_revoked_token_is_unknown_to_the_next_call_of_every_reader(path: Path) -> None:
    here, there = TokenFile(path), TokenFile(path)
    token = here.create("ada", name="laptop")
    assert there.identify(token) is not None

    assert here.revoke("laptop")

    assert here.identify(token) is None
    assert there.identify(token) is None
    assert not here.revoke("laptop")


def test_an_expired_token_is_never_answered(path: Path) -> None:
    clock = ManualClock()
    tokens = TokenFile(path, clock=clock)
    token = tokens.create("ada", expires_ms=clock.ms + 10)
    assert tokens.identify(token) is not None

    clock.ms += 10

    assert tokens.identify(token) is None
    assert [record.identity for record in tokens.records()] == ["ada"]


@pytest.mark.parametrize("text", ["", "sft_" + "0" * 43, "x" * 10_000, "\ud800", "ada"])
def test_a_text_that_is_not_a_token_is_nobody(path: Path, text: str) -> None:
    tokens = TokenFile(path)
    tokens.create("ada")

    assert tokens.identify(text) is None


def test_the_file_is_for_its_owner_alone_and_holds_no_token(path: Path) -> None:
    token = TokenFile(path).create("ada")

    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["tokens.json", "tokens.json.lock"]


def test_a_file_that_is_open_to_others_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TokenFile(path).create("ada")
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        TokenFile(path).refresh()

    assert "open to others" in caplog.text


def test_a_missing_or_damaged_file_grants_nothing_until_it_is_repaired(path: Path) -> None:
    tokens = TokenFile(path)
    token = tokens.create("ada")
    whole = path.read_bytes()
    for damage in (
        b"{",
        b"[]",
        b'{"version": 1}',
        whole.replace(b'"identity": "ada"', b'"identity": 7'),
    ):
        path.write_bytes(damage)
        with pytest.raises(TokenFileError, match="damaged in"):
            tokens.identify(token)

    path.unlink()
    with pytest.raises(TokenFileError):
        tokens.identify(token)
    path.write_bytes(whole)
    found = tokens.identify(token)

    assert found is not None


def test_a_damage_is_named_by_its_place_and_never_quoted(path: Path) -> None:
    tokens = TokenFile(path)
    tokens.create("ada")
    content = json.loads(path.read_text())
    content["tokens"][0]["hash"] = "secret"
    path.write_text(json.dumps(content))

    with pytest.raises(TokenFileError, match=r"tokens\.0\.hash") as refusal:
        tokens.identify("x")

    assert "secret" not in str(refusal.value)


def test_the_file_of_the_earlier_server_is_read_and_stays_of_its_version(path: Path) -> None:
    token = "sft_" + "A" * 43
    record = {
        "name": "ada", "identity": "ada", "roles": ["staff"], "created": 1, "expires": None,
        "hash": hashlib.sha256(token.encode()).hexdigest(), "pubkey": "ab" * 32,
    }  # fmt: skip
    path.write_text(json.dumps({"version": 1, "tokens": [record]}))
    tokens = TokenFile(path)

    found = tokens.identify(token)
    other = tokens.create("eve")

    assert found is not None
    assert (found.identity, found.roles, found.pubkey) == ("ada", ["staff"], "ab" * 32)
    assert json.loads(path.read_text())["version"] == 1
    assert tokens.identify(token) == found
    assert tokens.identify(other) is not None


def test_the_lines_of_the_earlier_registry_are_read_and_become_json_with_the_first_change(
    path: Path,
) -> None:
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in ("one", "two")]
    path.write_text(f"# people\n\n{digests[0]} ada\n{digests[1]} ada lovelace\n")
    tokens = TokenFile(path)
    found = [tokens.identify(each) for each in ("one", "two", "three")]
    assert [None if each is None else each.identity for each in found] == [
        "ada", "ada lovelace", None,
    ]  # fmt: skip

    made = tokens.create("eve")

    assert json.loads(path.read_text())["version"] == 1
    assert all(tokens.identify(each) for each in ("one", "two", made))


def test_a_bad_line_of_an_earlier_registry_is_named(path: Path) -> None:
    path.write_text("f" * 64 + " ada\nnonsense\n")

    with pytest.raises(TokenFileError, match="line 2"):
        TokenFile(path).identify("one")


def test_namespaces_and_scope_are_kept(path: Path) -> None:
    tokens = TokenFile(path)

    token = tokens.create("ada", namespaces=["acme"], scope_paths=["notes/**", "!notes/x"])
    found = tokens.identify(token)

    assert found is not None
    assert (found.namespaces, found.scope_paths) == (["acme"], ["notes/**", "!notes/x"])
    assert json.loads(path.read_text())["version"] == 2


@pytest.mark.parametrize(
    "values",
    [
        {"identity": ""}, {"identity": "a" * 201}, {"identity": " ada"}, {"identity": "ad\na"},
        {"roles": ["self"]}, {"roles": ["public"]}, {"roles": [""]}, {"roles": [" x"]},
        {"name": ""}, {"name": "taken"}, {"expires_ms": 0}, {"pubkey": "AB" * 32},
        {"namespaces": []}, {"namespaces": [""]}, {"scope_paths": []},
    ],
)  # fmt: skip
def test_a_refused_value_leaves_the_file_as_it_was(path: Path, values: dict[str, object]) -> None:
    tokens = TokenFile(path)
    tokens.create("taken")
    before = path.read_bytes()

    with pytest.raises(TokenFileError, match=r"refused|taken|past|grant"):
        tokens.create(**{"identity": "ada", **values})  # type: ignore[arg-type]

    assert path.read_bytes() == before


@pytest.mark.parametrize("identity", ["google|1234", "ada+x@example.org", "ada/lovelace"])
def test_identities_of_other_systems_are_taken(path: Path, identity: str) -> None:
    tokens = TokenFile(path)

    found = tokens.identify(tokens.create(identity))

    assert found is not None
    assert found.identity == identity


def test_tokens_that_are_made_at_once_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=TokenFile(path).create, args=["ada"]) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    names = {record.name for record in TokenFile(path).records()}

    assert names == {"ada", *(f"ada-{n}" for n in range(2, 13))}

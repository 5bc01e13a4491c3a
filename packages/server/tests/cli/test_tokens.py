"""``tokens``: a token is shown once, listed without its secret, and revoked by name."""

import json
from pathlib import Path

import pytest

from starfish_server.auth import TokenFile
from starfish_server.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def create(file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["tokens", "create", "--tokens", str(file), *options]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return out.strip()


def test_a_created_token_is_valid_and_alone_on_standard_output(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = create(file, capsys, "--identity", "ada", "--role", "staff", "--role", "editor")
    tokens = TokenFile(file)
    tokens.refresh()

    record = tokens.identify(token)
    assert record is not None
    assert (record.identity, record.roles, record.expires) == ("ada", ["staff", "editor"], None)


def test_listing_shows_everything_but_the_hash(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = create(file, capsys, "--identity", "ada", "--expires", "30d", "--pubkey", "ab" * 32)
    (record,) = TokenFile(file).records()

    assert main(["tokens", "list", "--tokens", str(file)]) == 0
    plain = capsys.readouterr().out
    assert main(["tokens", "list", "--json", "--tokens", str(file)]) == 0
    (listed,) = json.loads(capsys.readouterr().out)

    assert plain.startswith("ada  identity=ada  roles=-  created=20")
    assert plain.endswith("Z  valid\n")
    assert listed["expires"] - listed["created"] == pytest.approx(30 * 86_400_000, abs=10_000)
    assert listed["pubkey"] == "ab" * 32
    for secret in (token, record.hash):
        assert secret not in plain
        assert secret not in json.dumps(listed)


def test_a_revoked_token_is_gone_and_an_unknown_name_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(file, capsys, "--identity", "ada", "--name", "laptop")

    assert main(["tokens", "revoke", "--tokens", str(file), "laptop"]) == 0
    assert TokenFile(file).records() == []
    assert main(["tokens", "revoke", "--tokens", str(file), "laptop"]) == 3
    assert "no token is named 'laptop'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--identity", "a\nb"], 1, "printable ASCII"),
        (["--identity", "ada", "--role", "self"], 1, "the server's to grant"),
        (["--identity", "ada", "--expires", "2001-01-01"], 1, "in the past"),
        (["--identity", "ada", "--expires", "tomorrow"], 2, "it must be '30d'"),
        (["--identity", "ada", "--pubkey", "xyz"], 1, "64 lowercase hex"),
        ([], 2, "--identity"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    status: int,
    said: str,
) -> None:
    assert main(["tokens", "create", "--tokens", str(file), *options]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not file.exists()


def test_a_damaged_file_is_named_and_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[]")

    for command in (["list"], ["create", "--identity", "ada"], ["revoke", "ada"]):
        assert main(["tokens", *command, "--tokens", str(file)]) == 1
        assert f"token file {file}: damaged" in capsys.readouterr().err
    assert file.read_text() == "[]"


def test_no_file_is_an_empty_list(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "list", "--tokens", str(file)]) == 0
    assert capsys.readouterr().out == ""

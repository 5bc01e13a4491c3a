"""Proofs: those that hold, those that are refused, and that a stranger can check them with little installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from starfish_artifact_registry import manifest as manifests
from starfish_artifact_registry.checkpoint import Checkpoint, sign_checkpoint
from starfish_artifact_registry.errors import ProofError, ProofFilesError
from starfish_artifact_registry.model._catalogue import (
    FileIngested,
    PackageCreated,
    PackageDeleted,
    PackageExpired,
    RetentionHeld,
    storage_location_id,
)
from starfish_artifact_registry.model._event_codec import encode_payload
from starfish_artifact_registry.model._event_digest import payload_digest, record_bytes
from starfish_artifact_registry.model._merkle import inclusion_proof, leaf_hash, root_of
from starfish_artifact_registry.proof import ProvedEvent, encode_proof, verify_proof
from starfish_artifact_registry.proof import main as proof_main
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress

SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PACKAGE = UUID(int=1)
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
CONTENT = {"a.txt": b"alpha", "logs/b.txt": b"", "logs/day 1.txt": b"beta" * 1000}


def id_of(name: str) -> UUID:
    return uuid5(PACKAGE, name)


def a_manifest(package_id: UUID = PACKAGE, content: dict[str, bytes] = CONTENT) -> bytes:
    address = {path: ContentAddress.of(data) for path, data in content.items()}
    receipts = {
        storage_location_id("local", address[path]): manifests.StorageReceipt(
            storage_location_id=storage_location_id("local", address[path]),
            backend_id="local",
            content_address=address[path],
            size=len(data),
        )
        for path, data in content.items()
    }
    return manifests.encode(
        manifests.Manifest(
            package=manifests.ManifestPackage(
                id=str(package_id),
                name="name",
                producer="producer",
                subject="subject",
                retention_class="raw-evidence",
                metadata={"case": 7},
                created_at=WHEN,
                created_by="ada",
                finalized_at=WHEN,
                finalized_by="ada",
            ),
            files=tuple(
                manifests.ManifestFile(
                    id=id_of(path),
                    relative_path=path,
                    media_type="text/plain",
                    size=len(data),
                    content_address=address[path],
                    sha256=ContentAddress.of(data, "sha256"),
                    ingested_at=WHEN,
                    ingested_by="ada",
                    storage_location_id=storage_location_id("local", address[path]),
                )
                for path, data in sorted(content.items(), key=lambda item: item[0].encode())
            ),
            storage_receipts=tuple(receipts[key] for key in sorted(receipts, key=str)),
        )
    )


@dataclass
class Log:
    """A log of its own making, with the tree and nothing else of the registry."""

    leaves: list[bytes]
    events: list[ProvedEvent]

    @classmethod
    def of(cls, *entries: tuple[str, bytes] | None) -> Log:
        """One entry for each event: type and payload of the package's own, None for others'."""
        log = cls([], [])
        for sequence, entry in enumerate(entries, 1):
            event_type, payload = entry or ("v1.package.created", b"secret of others")
            event = ProvedEvent(
                sequence, id_of(f"event {sequence}"), event_type, "ada", WHEN, payload
            )
            record = record_bytes(
                sequence=sequence,
                event_id=event.event_id,
                package_id=PACKAGE if entry else UUID(int=2),
                event_type=event_type,
                payload_digest=payload_digest(payload),
                actor="ada",
                created_at_ms=1767323045678,
            )
            log.leaves.append(leaf_hash(record))
            if entry:
                log.events.append(event)
        return log

    @property
    def root(self) -> bytes:
        return root_of(self.leaves)

    def checkpoint(self, **changes: Any) -> Checkpoint:
        values = {"sequence": len(self.leaves), "root_hash": self.root} | changes
        return sign_checkpoint(
            values["sequence"],
            bytes(32),
            root_hash=values["root_hash"],
            created_at=WHEN,
            private_key=SEED,
        )

    def proof(self, **changes: Any) -> bytes:
        payloads = [e.payload for e in self.events if e.event_type == "v1.package.finalized"]
        hashes = inclusion_proof(
            sorted({event.sequence - 1 for event in self.events} | {len(self.leaves) - 1}),
            len(self.leaves),
            lambda start, end: root_of(self.leaves[start:end]),
        )
        return encode_proof(
            **{
                "package_id": PACKAGE,
                "manifest_digest": ContentAddress.of(payloads[0] if payloads else b""),
                "events": self.events,
                "tree_size": len(self.leaves),
                "hashes": hashes,
                "last_leaf": self.leaves[-1],
                "root_hash": self.root,
            }
            | changes
        )


def ingested(path: str, **changes: Any) -> tuple[str, bytes]:
    data = CONTENT[path]
    address = ContentAddress.of(data)
    values: dict[str, Any] = {
        "file_id": id_of(path),
        "relative_path": path,
        "media_type": "text/plain",
        "size": len(data),
        "content_address": address,
        "sha256": ContentAddress.of(data, "sha256"),
        "backend_id": "local",
        "storage_location_id": storage_location_id("local", address),
    }
    return "v1.file.ingested", encode_payload(FileIngested(**(values | changes)))


def created(**changes: Any) -> tuple[str, bytes]:
    values: dict[str, Any] = {
        "name": "name",
        "producer": "producer",
        "subject": "subject",
        "retention_class": "raw-evidence",
        "retention_days": 3650,
        "metadata": {"case": 7},
    }
    return "v1.package.created", encode_payload(PackageCreated(**(values | changes)))


CREATED = created()
INGESTED = [ingested(path) for path in CONTENT]
FINALIZED = ("v1.package.finalized", a_manifest())
CLEAR_SCREEN = ("v1.\x1b[2J", b"\xa0")
HELD = (
    "v1.retention.held",
    encode_payload(RetentionHeld(hold_id=UUID(int=7), reason="case")),
)
EXPIRED = ("v1.package.expired", encode_payload(PackageExpired(retain_until=WHEN)))
DELETED = ("v1.package.deleted", encode_payload(PackageDeleted(reason="space")))
WHOLE = [CREATED, *INGESTED, FINALIZED]


def a_log() -> Log:
    return Log.of(None, CREATED, None, None, *INGESTED, FINALIZED, None, HELD, None)


def test_a_proof_says_what_the_log_holds_of_the_package() -> None:
    log = a_log()

    proof = verify_proof(log.proof())

    assert proof.package_id == PACKAGE
    assert proof.manifest_bytes == a_manifest()
    assert [(event.sequence, event.event_type) for event in proof.events] == [
        (2, "v1.package.created"),
        (5, "v1.file.ingested"),
        (6, "v1.file.ingested"),
        (7, "v1.file.ingested"),
        (8, "v1.package.finalized"),
        (10, "v1.retention.held"),
    ]
    assert (proof.head_sequence, proof.root_hash) == (11, log.root)
    assert (proof.checkpoint, proof.files_checked) == (None, None)


def test_a_proof_discloses_nothing_of_other_packages() -> None:
    proof = a_log().proof()

    assert b"secret of others" not in proof
    assert len(cbor.decode(proof)["hashes"]) == 3 * 32


def test_a_proof_may_start_with_the_log() -> None:
    assert verify_proof(Log.of(*WHOLE).proof()).head_sequence == 5


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([CREATED, *INGESTED], id="never finalized"),
        pytest.param([*WHOLE, FINALIZED], id="finalized twice"),
        pytest.param([*INGESTED, FINALIZED], id="never created"),
        pytest.param([CREATED, *WHOLE], id="created twice"),
        pytest.param([*WHOLE, CLEAR_SCREEN], id="commands for the terminal"),
        pytest.param([CREATED, ("v1.package.finalized", b"\xa0")], id="not a manifest"),
        pytest.param(
            [CREATED, *INGESTED, ("v1.package.finalized", a_manifest(UUID(int=3)))],
            id="of another package",
        ),
        pytest.param([CREATED, *INGESTED[1:], FINALIZED], id="one file more in the manifest"),
        pytest.param([*WHOLE, INGESTED[0]], id="a file after the end"),
        pytest.param([CREATED, INGESTED[0], *INGESTED, FINALIZED], id="a file twice"),
        pytest.param([created(producer="another"), *WHOLE[1:]], id="another producer"),
        pytest.param(
            [
                CREATED,
                ingested("a.txt", sha256=ContentAddress.of(b"another", "sha256")),
                *[one for path, one in zip(CONTENT, INGESTED, strict=True) if path != "a.txt"],
                FINALIZED,
            ],
            id="another hash in the event",
        ),
        pytest.param([*WHOLE, EXPIRED], id="expired before its date"),
        pytest.param([*WHOLE, DELETED], id="deleted before its date"),
        pytest.param(
            [created(retention_days=0), *WHOLE[1:], HELD, DELETED], id="deleted under hold"
        ),
    ],
)
def test_a_history_that_cannot_be_is_refused(entries: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ProofError):
        verify_proof(Log.of(*entries).proof())


@pytest.mark.parametrize(
    "changes",
    [
        {"package_id": UUID(int=2)},
        {"manifest_digest": ContentAddress.of(b"another")},
        {"tree_size": 10},
        {"tree_size": 12},
        {"tree_size": 0},
        {"tree_size": -1},
        {"root_hash": bytes(32)},
        {"root_hash": b""},
        {"last_leaf": bytes(32)},
        {"last_leaf": b""},
        {"hashes": []},
        {"hashes": [b"\x11" * 31]},
        {"hashes": [b"\x11" * 32]},
        {"events": []},
    ],
    ids=str,
)
def test_fields_that_do_not_agree_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProofError):
        verify_proof(a_log().proof(**changes))


@pytest.mark.parametrize("place", range(6))
def test_an_event_that_says_something_else_is_not_in_the_tree(place: int) -> None:
    log = a_log()
    events = [*log.events]
    events[place] = replace(events[place], actor="eve")

    with pytest.raises(ProofError, match="root"):
        verify_proof(log.proof(events=events))


@pytest.mark.parametrize("place", range(6))
def test_an_event_left_out_does_not_give_the_root(place: int) -> None:
    log = a_log()
    events = [*log.events]
    del events[place]

    with pytest.raises(ProofError):
        verify_proof(log.proof(events=events))


def test_a_trusted_signature_anchors_the_proof() -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")
    log = a_log()

    proof = verify_proof(log.proof(checkpoint=log.checkpoint()), trusted_keys=["00" * 32, PUBLIC])

    assert proof.checkpoint == log.checkpoint()


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (None, [PUBLIC]),
        ({}, ["00" * 32]),
        ({"sequence": 7}, [PUBLIC]),
        ({"root_hash": bytes(32)}, [PUBLIC]),
        ({"root_hash": None}, [PUBLIC]),
    ],
    ids=[
        "no checkpoint",
        "by somebody else",
        "of an earlier event",
        "of another log",
        "without a root",
    ],
)
def test_a_proof_that_nobody_trusted_speaks_for_is_refused(
    changes: dict[str, Any] | None, keys: list[str]
) -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")
    log = a_log()
    checkpoint = None if changes is None else log.checkpoint(**changes)

    with pytest.raises(ProofError):
        verify_proof(log.proof(checkpoint=checkpoint), trusted_keys=keys)


def test_a_malformed_key_is_the_callers_mistake() -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")
    log = a_log()

    with pytest.raises(ValueError, match="64 lowercase hex digits") as refused:
        verify_proof(log.proof(checkpoint=log.checkpoint()), trusted_keys=["ab"])
    assert not isinstance(refused.value, ProofError)


PLAIN = a_log().proof()


@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_proof_passes(place: int, change: int) -> None:
    changed = bytearray(PLAIN)
    changed[place] ^= change

    with pytest.raises(ProofError):
        verify_proof(bytes(changed))


@given(st.data())
def test_no_changed_byte_of_a_signed_proof_passes(data: st.DataObject) -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")
    log = a_log()
    signed = log.proof(checkpoint=log.checkpoint())
    changed = bytearray(signed)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(ProofError):
        verify_proof(bytes(changed), trusted_keys=[PUBLIC])
    try:  # who asks for no signature is told of none
        unsigned = verify_proof(bytes(changed))
    except ProofError:
        return
    assert unsigned == verify_proof(signed)


@given(st.integers(0, len(PLAIN) - 1))
def test_a_proof_that_was_cut_is_refused(end: int) -> None:
    with pytest.raises(ProofError):
        verify_proof(PLAIN[:end])


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=10,
)


@given(st.data())
def test_hostile_values_in_any_field_are_refused(data: st.DataObject) -> None:
    fields = cbor.decode(PLAIN)
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(VALUES)
    if name == "events" and data.draw(st.booleans()):
        event = data.draw(
            st.sampled_from([item for item in fields["events"] if type(item) is dict])
        )
        event[data.draw(st.sampled_from(sorted(event)))] = value
    else:
        fields[name] = value
    if (encoded := cbor.encode(fields)) == PLAIN:
        return

    try:
        proof = verify_proof(encoded)
    except ProofError:
        return
    assert name == "checkpoint"
    assert proof == verify_proof(PLAIN)


@given(st.binary(max_size=200))
def test_noise_is_no_proof(noise: bytes) -> None:
    with pytest.raises(ProofError):
        verify_proof(noise)


def test_a_proof_above_the_limit_is_not_read() -> None:
    with pytest.raises(ProofError, match="at most 10 are accepted"):
        verify_proof(PLAIN, max_bytes=10)
    assert verify_proof(PLAIN, max_bytes=len(PLAIN))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for path, data in CONTENT.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def test_files_beside_a_proof_are_compared(folder: Path) -> None:
    (folder / "not in the manifest").write_bytes(b"whatever")

    assert verify_proof(PLAIN, files=folder).files_checked == 3


def test_files_that_are_missing_or_changed_are_named(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"alphA")
    (folder / "logs/day 1.txt").unlink()

    with pytest.raises(ProofFilesError) as refused:
        verify_proof(PLAIN, files=folder)
    assert refused.value.changed == ("a.txt",)
    assert refused.value.missing == ("logs/day 1.txt",)


def test_a_pipe_in_the_place_of_a_file_is_a_changed_file(folder: Path) -> None:
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")

    with pytest.raises(ProofFilesError) as refused:
        verify_proof(PLAIN, files=folder)
    assert refused.value.changed == ("a.txt",)


def test_a_folder_that_is_none_has_no_files(folder: Path) -> None:
    with pytest.raises(ProofFilesError) as refused:
        verify_proof(PLAIN, files=folder / "a.txt")
    assert len(refused.value.missing) == 3


# The command of an auditor, who has this package and starfish-protocol, and no database library.

WITHOUT_DATABASES = """
import runpy, sys
for name in ("sqlalchemy", "aiosqlite", "asyncpg", "obstore", "fastapi", "typer", "sqlite3"):
    sys.modules[name] = None
sys.argv[0] = "proof"
runpy.run_module("starfish_artifact_registry.proof", run_name="__main__", alter_sys=True)
"""


def installed_with_protocol() -> set[str]:
    """Names of modules that are there when nothing but ``starfish-protocol`` was installed."""
    wanted, found = ["starfish-protocol"], set[str]()
    while wanted:
        name = wanted.pop()
        found.add(name)
        needed = (Requirement(text) for text in metadata.requires(name) or ())
        wanted += {
            each.name for each in needed if each.marker is None or each.marker.evaluate()
        } - found
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not found.isdisjoint(owner.lower().replace("_", "-") for owner in owners)
    }


def test_the_verifier_imports_nothing_but_protocol_and_what_comes_with_it() -> None:
    code = "import sys, starfish_artifact_registry.proof; print(*sys.modules)"
    clean = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    names = {
        name.partition(".")[0] for name in set(loaded.stdout.split()) - set(clean.stdout.split())
    }

    ours = {"starfish_artifact_registry", "starfish_protocol"}
    assert ours <= names
    # `_openssl` is a part of cryptography that it registers without a package.
    assert names - ours - sys.stdlib_module_names - {"_openssl"} <= installed_with_protocol()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_DATABASES, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.fixture
def proof_file(tmp_path: Path) -> Path:
    path = tmp_path / "package.proof"
    path.write_bytes(PLAIN)
    return path


def test_the_command_works_without_any_database_library(proof_file: Path, folder: Path) -> None:
    done = run(proof_file, "--files", folder, "--json")

    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["holds"] is True
    assert answer["package_id"] == str(PACKAGE)
    assert answer["files_checked"] == 3
    assert [event["sequence"] for event in answer["events"]] == [2, 5, 6, 7, 8, 10]


def main(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = proof_main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_says_in_words_what_holds(
    proof_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = main(capsys, proof_file)

    assert status == 0
    assert "the proof holds: package 00000000-0000-0000-0000-000000000001, 'name'" in out
    assert "event 8: v1.package.finalized by 'ada'" in out
    assert "no signature was checked" in out


def test_the_commands_exit_status_is_the_answer(
    proof_file: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.proof"
    damaged.write_bytes(PLAIN[:-1] + b"\x02")
    (folder / "a.txt").write_bytes(b"")

    assert main(capsys, damaged)[0] == 1
    with pytest.raises(SystemExit) as usage:
        proof_main([])
    assert usage.value.code == 2
    capsys.readouterr()
    status, _, err = main(capsys, proof_file, "--files", folder)
    assert (status, err.splitlines()[1]) == (3, "changed: 'a.txt'")
    assert main(capsys, tmp_path / "nowhere")[0] == 4
    assert main(capsys, proof_file, "--max-bytes", "10")[0] == 1


def test_the_command_checks_the_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")
    log = a_log()
    path = tmp_path / "signed.proof"
    path.write_bytes(log.proof(checkpoint=log.checkpoint()))

    assert f"signed by {PUBLIC}" in main(capsys, path, "--key", PUBLIC)[1]
    assert main(capsys, path, "--key", "00" * 32)[0] == 1
    assert main(capsys, path, "--key", "short")[0] == 2

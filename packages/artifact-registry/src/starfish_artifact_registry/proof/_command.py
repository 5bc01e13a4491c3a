"""The check of a proof as a program, where there is neither a registry nor its database."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from starfish_artifact_registry.errors import CheckpointError, ProofError, ProofFilesError
from starfish_artifact_registry.model._signed_note import NoteKey, SignedNote
from starfish_artifact_registry.model._tree_head import TreeHead
from starfish_artifact_registry.proof._verify import MAX_PROOF_BYTES, PackageProof, verify_proof

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a proof from the command line; the exit status is the answer.

    0: it holds. 1: it proves nothing. 2: wrong usage. 3: it holds, but files are missing or
    changed. 4: it could not be checked, because something cannot be read or an extra is missing.
    """
    parser = argparse.ArgumentParser(
        prog="python -m starfish_artifact_registry.proof._verify",
        description="Check an exported proof of a package.",
        epilog="exit status: 0 it holds, 1 it proves nothing, 2 wrong usage, "
        "3 files are missing or changed, 4 it could not be checked",
    )
    parser.add_argument("file", type=Path, help="the proof")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="HEX",
        help="a trusted Ed25519 public key; the proof must hold a checkpoint signed by one of them",
    )
    parser.add_argument(
        "--note",
        type=Path,
        metavar="FILE",
        help="a signed note of the tree that the proof reaches to",
    )
    parser.add_argument(
        "--note-key",
        action="append",
        default=[],
        metavar="KEY",
        help="a key that must have signed the note, as name+hash+base64",
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="KEY",
        help="a witness that may have signed the note, as name+hash+base64",
    )
    parser.add_argument(
        "--quorum",
        type=int,
        metavar="N",
        help="how many of the witnesses must have; all if not said",
    )
    parser.add_argument("--files", type=Path, metavar="DIR", help="compare the files in a folder")
    parser.add_argument("--json", action="store_true", help="answer as one line of JSON")
    parser.add_argument("--max-bytes", type=int, default=MAX_PROOF_BYTES, help="size that is read")
    options = parser.parse_args(arguments)
    status, answer = _check(options)
    text = json.dumps(answer) if options.json else "\n".join(_lines(answer))
    (sys.stdout if status == 0 or options.json else sys.stderr).write(text + "\n")
    return status


def _check(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    try:
        with options.file.open("rb") as stream:
            data = stream.read(options.max_bytes + 1)
        proof = verify_proof(
            data, trusted_keys=options.key, files=options.files, max_bytes=options.max_bytes
        )
        if options.note is not None:
            _check_note(proof, options)
    except ProofFilesError as error:
        answer = {"missing": error.missing, "changed": error.changed}
        return 3, {"holds": False, "error": str(error), **answer}
    except (ProofError, CheckpointError) as error:
        return 1, {"holds": False, "error": str(error)}
    except ValueError as error:
        return 2, {"holds": False, "error": str(error)}
    except (OSError, ImportError) as error:
        return 4, {"holds": False, "error": str(error)}
    return 0, _answer(proof)


def _check_note(proof: PackageProof, options: argparse.Namespace) -> None:
    note = SignedNote.decode(options.note.read_bytes())
    head = TreeHead.parse(note.text)
    if (head.size, head.root_hash) != (proof.head_sequence, proof.root_hash):
        raise ProofError(
            f"the note is of a tree of {head.size} events with the root {head.root_hash.hex()}, "
            f"the proof of one of {proof.head_sequence} with {proof.root_hash.hex()}"
        )
    keys = [NoteKey.parse(text) for text in options.note_key]
    if not any(key.name == head.origin for key in keys):
        raise ProofError(f"none of the note keys is of the log {head.origin!r:.120}")
    note.check(keys)
    if options.witness:
        note.check([NoteKey.parse(text) for text in options.witness], quorum=options.quorum)


def _answer(proof: PackageProof) -> dict[str, Any]:
    package = proof.manifest.package
    return {
        "holds": True,
        "package_id": str(proof.package_id),
        "name": package.name,
        "producer": package.producer,
        "subject": package.subject,
        "manifest_digest": str(proof.manifest_digest),
        "files": len(proof.manifest.files),
        "files_checked": proof.files_checked,
        "events": [
            {
                "sequence": event.sequence,
                "event_type": event.event_type,
                "actor": event.actor,
                "created_at": event.created_at.isoformat(),
            }
            for event in proof.events
        ],
        "head_sequence": proof.head_sequence,
        "root_hash": proof.root_hash.hex(),
        "signed_by": proof.checkpoint.public_key if proof.checkpoint else None,
        "signed_at": proof.checkpoint.created_at.isoformat() if proof.checkpoint else None,
    }


def _lines(answer: dict[str, Any]) -> Iterable[str]:
    if not answer["holds"]:
        yield f"refused: {answer['error']}"
        yield from (f"missing: {path!r}" for path in answer.get("missing", ()))
        yield from (f"changed: {path!r}" for path in answer.get("changed", ()))
        return
    yield f"the proof holds: package {answer['package_id']}, {answer['name']!r}"
    yield f"manifest {answer['manifest_digest']}, {answer['files']} files"
    for event in answer["events"]:
        yield (
            f"event {event['sequence']}: {event['event_type']} "
            f"by {event['actor']!r} at {event['created_at']}"
        )
    yield f"tree of the log: {answer['head_sequence']} events, root {answer['root_hash']}"
    if answer["signed_by"] is not None:
        yield f"signed by {answer['signed_by']} at {answer['signed_at']}"
    else:
        yield "no signature was checked: compare the root with one that you know, or give --key"
    if answer["files_checked"] is not None:
        yield f"{answer['files_checked']} files in the folder are those of the manifest"

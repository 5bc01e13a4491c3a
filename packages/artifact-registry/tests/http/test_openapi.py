"""The OpenAPI document describes what the service does: schemathesis finds nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("fastapi", reason="needs the extra http")
pytest.importorskip("schemathesis", reason="needs the group test-extra")

import schemathesis
from fastapi import FastAPI
from hypothesis import settings
from sqlalchemy import NullPool

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.http import HttpLimits, anyone, create_registry_router
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

FOLDER = TemporaryDirectory(prefix="starfish-registry-")


def application() -> FastAPI:
    """Served by a new event loop for every call, so that no connection may outlive one."""
    folder = Path(FOLDER.name)
    engine = create_engine(f"sqlite:///{folder / 'registry.sqlite'}", poolclass=NullPool)
    asyncio.run(create_schema(engine))
    dataplane = InProcessDataPlane(LocalBackend(folder / "content"))
    app = FastAPI()
    limits = HttpLimits(heartbeat_s=0.01, event_stream_s=0.02)
    registry = Registry(engine, dataplane, RegistryViewWriter())
    app.include_router(
        create_registry_router(registry, authenticate=anyone, limits=limits), prefix="/v1"
    )
    return app


APP = application()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> None:
    """Calls come from a thread of the test client, whose loop is not watched."""


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=settings().max_examples // 4)
def test_the_service_does_what_its_description_says(case: schemathesis.Case) -> None:
    # Whether a text is a legal path, media type or name, and what the log says of a package, has
    # no words in OpenAPI: a 400, 404 or 409 to data that fits the schema is not a finding.
    case.call_and_validate(
        excluded_checks=[schemathesis.specs.openapi.checks.positive_data_acceptance]
    )


def test_every_call_is_described() -> None:
    from starfish_artifact_registry.http._error_responses import ErrorBody

    document = APP.openapi()

    assert set(document["paths"]) == {
        "/v1/packages",
        "/v1/packages/{package_id}",
        "/v1/packages/{package_id}/files",
        "/v1/packages/{package_id}/files/{relative_path}",
        "/v1/packages/{package_id}/finalize",
        "/v1/packages/{package_id}/manifest",
        "/v1/packages/{package_id}/verify",
        "/v1/packages/{package_id}/proof",
        "/v1/tiles/tile/{path}",
        "/v1/packages/{package_id}/holds",
        "/v1/packages/{package_id}/holds/{hold_id}/release",
        "/v1/packages/{package_id}/expire",
        "/v1/packages/{package_id}/delete",
        "/v1/files/{file_id}",
        "/v1/events",
    }
    assert ErrorBody.__name__ in document["components"]["schemas"]

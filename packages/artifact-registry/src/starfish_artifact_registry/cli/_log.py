"""``tail`` and ``replay``: the log, and the views made from it."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from starfish_artifact_registry.cli._command import Session, command
from starfish_artifact_registry.cli._terminal_text import printable
from starfish_artifact_registry.events import Event, RegistryViewWriter
from starfish_artifact_registry.events import replay as replay_log
from starfish_artifact_registry.model._event_form import event_form

__all__ = ("add_log_commands",)


def add_log_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "tail")(tail)
    command(app, "replay")(replay)


async def tail(
    session: Session,
    *,
    since: Annotated[
        int, typer.Option(min=0, metavar="SEQUENCE", help="Begin after this event.")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")
    ] = False,
) -> None:
    """Print the events of the log in order."""
    output = session.output
    async with session.registry() as registry:
        head = (await registry.verify_log()).head_sequence if not follow else None
        if head is not None and since >= head:
            return
        async with contextlib.aclosing(registry.tail_events(since_sequence=since)) as events:
            async for event in events:
                output.result(event_form(event), _line(event))
                output.finish()
                if event.sequence == head:
                    return


async def replay(session: Session) -> None:
    """Rebuild every table from the log, in one transaction; the log itself is not touched."""
    session.place.require()
    async with session.place.engine() as engine:
        applied = await replay_log(engine, RegistryViewWriter(), reset=True)
    session.output.result({"events": applied}, f"replayed {applied} events")


def _line(event: Event) -> str:
    form: dict[str, Any] = event_form(event)
    moment = event.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    details = form["payload"] or {"manifest_digest": form["payload_digest"]}
    name = details.get("relative_path") or details.get("name") or details.get("reason")
    about = f"  {printable(str(name))}" if name else ""
    return (
        f"{event.sequence:>6}  {moment}  {event.event_type:<22}  {event.package_id}  "
        f"{printable(event.actor)}{about}"
    )

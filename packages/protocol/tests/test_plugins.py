import dataclasses
import inspect

import pytest

from starfish_protocol import plugins
from starfish_protocol.plugins import ServerPlugin, WriteEvent

# Extensions construct these by position and name; a field may follow, none may go or move.
PUBLISHED = {
    "WriteEvent": ["collection", "hash", "timestamp", "params", "body", "namespace", "identity"],
    "ServerPlugin": [
        "name", "cap_validators", "after_write", "before_pull", "intercept_push", "intercept_pull",
        "authorize", "shutdown", "startup",
    ],
    "PullHookContext": ["collection", "params", "namespace"],
    "PushHookContext": ["collection", "params", "raw_body", "namespace"],
    "AuthorizeContext": ["action", "collection", "params", "identity", "namespace", "roles"],
    "PullHookResult": ["action", "status", "error"],
    "PushHookResult": ["action", "status", "error", "body"],
    "InterceptPullResult": ["action", "status", "body", "content_type"],
    "AuthorizeResult": ["action", "status", "error"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), PUBLISHED.items(), ids=PUBLISHED)
def test_published_fields_stay_where_they_are(name, fields):
    declared = dataclasses.fields(getattr(plugins, name))

    assert [field.name for field in declared][: len(fields)] == fields
    assert all(field.default is not dataclasses.MISSING for field in declared[len(fields) :])


def test_every_value_is_listed():
    values = {
        name for name, value in vars(plugins).items()
        if inspect.isclass(value) and dataclasses.is_dataclass(value)
    }  # fmt: skip

    assert values == set(PUBLISHED)


def test_an_event_needs_only_the_facts_that_every_host_has():
    event = WriteEvent("notes", "0" * 64, 1, {"id": "7"})

    assert (event.body, event.document_key, event.sequence) == (None, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.hash = ""


def test_a_plugin_without_hooks_does_nothing():
    plugin = ServerPlugin("quiet")

    assert plugin.cap_validators == {}
    assert [getattr(plugin, field) for field in PUBLISHED["ServerPlugin"][2:]] == [None] * 7

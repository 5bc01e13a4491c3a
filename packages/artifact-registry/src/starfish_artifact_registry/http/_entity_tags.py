"""Entity tags (RFC 9110, sections 8.8.3 and 13.1): the tag of a body is its content address."""

from __future__ import annotations

import re

from starfish_protocol.address import ContentAddress

__all__ = ("entity_tag", "is_in_range_condition", "is_not_modified")

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def entity_tag(address: ContentAddress) -> str:
    """The strong tag of the bytes with this address."""
    return f'"{address}"'


def is_not_modified(if_none_match: str | None, tag: str) -> bool:
    """Whether the client holds these bytes already.

    Examples:
        >>> is_not_modified('"a", W/"b"', '"b"')
        True
        >>> is_not_modified("*", '"b"')
        True
    """
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def is_in_range_condition(if_range: str | None, tag: str) -> bool:
    """Whether a range may be answered; dates never match, since content is named by its hash."""
    return if_range is None or if_range.strip() == tag

"""A request on its way to its route: caller, limits, access rules, body, refusals, answers."""

__all__ = ()

"""Contract tests of an HTTP edge, for whatever serves one."""

from starfish_http.testing.edge_contract import EdgeContract, ServedCommand

__all__ = ("EdgeContract", "ServedCommand")

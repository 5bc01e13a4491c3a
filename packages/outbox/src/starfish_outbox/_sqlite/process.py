"""Which process holds a claim, and whether it is certainly gone.

A lease ends by the clock in any case; knowing that its holder is dead ends it at once. Where
the system does not tell (no ``/proc``, another machine, another container) nobody is ever
declared dead.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def process_token() -> str:
    """This process in this boot of this machine: ``<boot>/<pid namespace>/<pid>/<start>``."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_start_time(pid) or ''}"


def is_of_this_machine(token: str) -> bool:
    """Whether a token, or an owner's name that begins with one, was made in this boot of this machine."""
    machine = _machine()
    return bool(machine) and token.startswith(f"{machine}/")


def is_certainly_dead(token: str) -> bool:
    """Whether the process of a token ran here and is gone."""
    machine, _, rest = token.rpartition("/")
    machine, _, pid = machine.rpartition("/")
    if not rest or machine != _machine() or not pid.isdecimal():
        return False
    return _start_time(int(pid)) != rest


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of a process; ``None`` when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything, spaces and parentheses included.
    state, *fields = stat.rpartition(b")")[2].split()
    return None if state in {b"Z", b"X"} else fields[18].decode("ascii")

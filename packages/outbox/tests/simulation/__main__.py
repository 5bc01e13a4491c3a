"""``python packages/outbox/tests/simulation --seeds 10000``: many worlds, each from its seed.

Prints every seed that shows a fault, and ends with 1 when there was one. ``--plant NAME`` puts a fault
in, to see that it is found; ``--plants`` tries all of them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from faults import PLANTS
from virtual_time import run
from world import Found, World


def play(seeds: Iterable[int], plant: str | None, *, first_only: bool) -> tuple[int, Found]:
    """Play worlds; how many showed a fault, and the sum of all."""
    wrong, total = 0, Found()
    with PLANTS[plant]() if plant is not None else nullcontext():
        for seed in seeds:
            found = run(World(seed).play())
            for name in ("edits", "sent", "conflicts", "crashes"):
                setattr(total, name, getattr(total, name) + getattr(found, name))
            if found.wrong:
                wrong += 1
                print(f"seed {seed}: " + "; ".join(found.wrong[:3]), flush=True)
                if first_only:
                    break
    return wrong, total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", metavar="SEED", help="these seeds")
    parser.add_argument("--plant", choices=sorted(PLANTS))
    parser.add_argument("--plants", action="store_true", help="try each planted fault")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = options.only or range(options.first, options.first + options.seeds)
    if options.plants:
        missed: list[str] = []
        for name in PLANTS:
            print(name, end=": ")
            if not play(seeds, name, first_only=True)[0]:
                print("not found")
                missed.append(name)
        print(f"{len(PLANTS) - len(missed)} of {len(PLANTS)} planted faults were found", *missed)
        return int(bool(missed))
    wrong, total = play(seeds, options.plant, first_only=False)
    print(
        f"{len(seeds)} seeds, {wrong} with a fault: {total.edits} edits, {total.sent} sent,"
        f" {total.conflicts} conflicts, {total.crashes} crashes"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

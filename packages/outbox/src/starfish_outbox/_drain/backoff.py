"""How long to wait after a failed attempt; arithmetic only."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol


class Backoff(Protocol):
    """Says how long to wait."""

    def delay_ms(self, attempts: int) -> int:
        """Milliseconds to wait after so many failed attempts, at least 1 of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialBackoff:
    """Doubling delays up to a limit, spread so that many clients do not come back at once.

    Examples:
        >>> calm = ExponentialBackoff(base_ms=100, max_ms=1000, jitter=0)
        >>> [calm.delay_ms(n) for n in (1, 2, 3, 4, 5, 500)]
        [100, 200, 400, 800, 1000, 1000]
        >>> 50 <= ExponentialBackoff(base_ms=100, rng=random.Random(7)).delay_ms(1) <= 100
        True
    """

    base_ms: int = 1_000
    """Delay after the first failure."""
    factor: float = 2.0
    """By how much each delay is longer than the one before."""
    max_ms: int = 300_000
    """No delay is longer; five minutes, so that a recovered server is noticed soon."""
    jitter: float = 0.5
    """Largest share of a delay that chance takes off, 0 to 1."""
    rng: random.Random = field(default_factory=random.Random, compare=False)
    """Where chance comes from; seed it for delays that repeat."""

    def __post_init__(self) -> None:
        if not 0 < self.base_ms <= self.max_ms:
            raise ValueError(
                f"base_ms is {self.base_ms}, must be positive and at most max_ms, {self.max_ms}"
            )
        if not self.factor >= 1:
            raise ValueError(f"factor is {self.factor}, must be at least 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}, must be between 0 and 1")

    def delay_ms(self, attempts: int) -> int:
        """Milliseconds to wait after so many failed attempts."""
        try:
            delay = min(float(self.max_ms), self.base_ms * self.factor ** (attempts - 1))
        except OverflowError:
            delay = float(self.max_ms)
        return round(delay * (1 - self.jitter * self.rng.random()))

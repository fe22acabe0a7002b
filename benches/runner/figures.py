"""Medians, spreads and ratios."""

from __future__ import annotations

import dataclasses
import statistics

#: Spread over median from which a figure is marked as noisy.
NOISY_SPREAD = 0.25


@dataclasses.dataclass(frozen=True)
class Figure:
    """Samples of one quantity, one per round."""

    samples: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of rounds."""
        return len(self.samples)

    @property
    def median(self) -> float:
        """Middle sample, or the mean of the two in the middle."""
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        """Least sample."""
        return min(self.samples)

    @property
    def high(self) -> float:
        """Greatest sample."""
        return max(self.samples)

    @property
    def is_noisy(self) -> bool:
        """Whether the samples spread by more than a quarter of their median."""
        return self.high - self.low > NOISY_SPREAD * self.median

    def as_json(self) -> dict:
        """Plain data."""
        return {
            "n": self.n,
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "samples": list(self.samples),
        }

    @staticmethod
    def from_json(data: dict) -> Figure:
        """The reverse of `as_json`."""
        return Figure(tuple(data["samples"]))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Quotient of two medians, with the range of the quotients within single rounds."""

    value: float
    low: float
    high: float


def ratio(numerator: Figure, denominator: Figure) -> Ratio | None:
    """`numerator / denominator`; `None` when the denominator is zero.

    Rounds are interleaved, so samples with the same index were taken next to each other: the range of
    their quotients shows how far the machine's noise moves the ratio.
    """
    if denominator.low <= 0:
        return None
    paired = [a / b for a, b in zip(numerator.samples, denominator.samples, strict=False)]
    return Ratio(numerator.median / denominator.median, min(paired), max(paired))

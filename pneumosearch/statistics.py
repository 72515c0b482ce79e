"""Intervals and tests."""


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, as fractions.

    Args:
        successes: Between 0 and n.
        n: At least 1.
        confidence: In (0, 1).

    Source:
        Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)

"""What a study may claim: one system is better, two are as good as each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from evalsite.stats.intervals import score_limits
from evalsite.stats.multiplicity import holm_where_known
from evalsite.stats.pairs import Pair
from evalsite.stats.win_rate import WinRate

Table = Mapping[tuple[str, Pair], WinRate]
Direction = Literal["first", "second"]
MarginKind = Literal["equivalence", "non_inferiority"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of a table of differences: is one of the two systems better?"""

    criterion: str
    first: int
    second: int
    p_value: float | None  # None where there are no votes
    p_holm: float | None  # over the whole table
    decided: bool  # p_holm is below the table's alpha
    direction: Direction | None  # the better one, where decided
    level: float  # below this p_value the row is decided, if all others stay as they are


@dataclass(frozen=True, slots=True)
class MarginClaim:
    """One row of a table of margins: do the two systems differ by less than was declared?"""

    kind: MarginKind
    criterion: str
    first: int
    second: int
    margin: float  # around one half, as declared before the study opened
    confidence: float  # of the interval: 1 - 2 alpha
    low: float | None
    high: float | None
    p_value: float | None  # below alpha exactly where the interval keeps within the margin
    p_holm: float | None  # over the whole table
    decided: bool


def superiority(table: Table, *, alpha: float = 0.05) -> tuple[Claim, ...]:
    """Which differences of one published table may be claimed.

    All tests against one half, of all criteria and pairs, are one family: Holm's adjustment
    keeps the chance of any false claim in the whole table below alpha. A planned row without
    votes belongs to the family too, as a test that failed, so that the number of tests does
    not depend on the data.

    The level of a row is the p-value below which Holm decides it while the other rows keep
    theirs. With m rows, and s counting how many of the others Holm's steps pass on their own,

        level = alpha / (m - s),   s the first k with q_(k+1) >= alpha / (m - k)

    q_(1) <= ... <= q_(m-1) being the other rows' p-values.

    Parameters
    ----------
    table : the win rate of each criterion and pair, of the pair's first system.
    alpha : the chance of any false claim, in (0, 1).

    Returns
    -------
    One Claim for each row, in the table's order.

    Raises
    ------
    ValueError : alpha outside (0, 1).

    Source
    ------
    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    adjusted = holm_where_known([result.p_value for result in table.values()])
    levels = _levels([result.p_value for result in table.values()], alpha)
    claims = []
    for (row, result), p_holm, level in zip(table.items(), adjusted, levels, strict=True):
        criterion, (first, second) = row
        decided = p_holm is not None and p_holm < alpha
        direction = _direction(result) if decided else None
        claims.append(
            Claim(criterion, first, second, result.p_value, p_holm, decided, direction, level)
        )
    return tuple(claims)


def equivalence(table: Table, *, margin: float, alpha: float = 0.05) -> tuple[MarginClaim, ...]:
    """Which pairs are as good as each other, within a margin declared beforehand.

    Two one-sided tests, each at alpha: the win rate lies above 1/2 - margin, and it lies below
    1/2 + margin. Each is taken where its hypothesis stands, on the scale of Wilson's interval,
    with n_eff and df of the clustered win rate p:

        T(r) = (p - r) / sqrt(r (1 - r) / n_eff)
        p_value = max(1 - F_df(T(1/2 - margin)), F_df(T(1/2 + margin)))

    so that p_value < alpha exactly when the interval with confidence 1 - 2 alpha, of the same
    form as every other one, lies within the margin. Absence of a difference that was found is
    not equivalence: few votes make wide intervals, and wide intervals decide nothing.

    Parameters
    ----------
    table : the win rates of the claims declared; all of them are one family for Holm.
    margin : around one half, in (0, 1/2): with .05, win rates from .45 to .55 are as good.
    alpha : in (0, 1/2).

    Returns
    -------
    One MarginClaim for each row, in the table's order; `decided` goes by `p_holm`.

    Raises
    ------
    ValueError : margin or alpha outside (0, 1/2).

    Source
    ------
    D. J. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680;
    the test at the margin's own variance inverts E. B. Wilson, JASA 22 (1927) 209-212.
    """
    return _within(table, "equivalence", margin, alpha)


def non_inferiority(table: Table, *, margin: float, alpha: float = 0.05) -> tuple[MarginClaim, ...]:
    """Which first systems are not worse than their second ones by more than a margin.

    The lower one of the two tests of `equivalence`: the win rate lies above 1/2 - margin, with
    p_value = 1 - F_df(T(1/2 - margin)) < alpha exactly when the lower bound of the interval
    with confidence 1 - 2 alpha does. "Four steps are as good as fifty" is such a claim, the
    pair named with the four steps first.

    Parameters
    ----------
    table, margin, alpha : as for `equivalence`.

    Returns
    -------
    One MarginClaim for each row, in the table's order; `decided` goes by `p_holm`.

    Raises
    ------
    ValueError : margin or alpha outside (0, 1/2).

    Source
    ------
    As for `equivalence`.
    """
    return _within(table, "non_inferiority", margin, alpha)


def _within(table: Table, kind: MarginKind, margin: float, alpha: float) -> tuple[MarginClaim, ...]:
    if not 0 < margin < 0.5:
        raise ValueError(f"a margin lies between 0 and 1/2, not {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 1/2, not {alpha}")
    rows = [_margin_claim(kind, *row, result, margin, alpha) for row, result in table.items()]
    adjusted = holm_where_known([row.p_value for row in rows])
    return tuple(
        replace(row, p_holm=p_holm, decided=p_holm is not None and p_holm < alpha)
        for row, p_holm in zip(rows, adjusted, strict=True)
    )


def _margin_claim(
    kind: MarginKind, criterion: str, pair: Pair, result: WinRate, margin: float, alpha: float
) -> MarginClaim:
    low = high = p_value = None
    if result.win_rate is not None and result.n_eff is not None:
        limits = score_limits(result.win_rate, result.n_eff, _quantile(1 - alpha, result.df))
        low, high = limits.low, limits.high
        p_value = p_above(result.win_rate, result.n_eff, result.df, 0.5 - margin)
        if kind == "equivalence":
            p_value = max(
                p_value, p_above(1 - result.win_rate, result.n_eff, result.df, 0.5 - margin)
            )
    return MarginClaim(
        kind, criterion, *pair, margin, 1 - 2 * alpha, low, high, p_value, None, decided=False
    )


def p_above(rate: float, n_eff: float, df: float | None, bound: float) -> float:
    """One-sided p-value of the claim that a win rate lies above `bound`: 1 - F_df(T(bound)).

    Below one half exactly where the rate does; below a where Wilson's lower limit with t at
    1 - a does.
    """
    distance = (rate - bound) / math.sqrt(bound * (1 - bound) / n_eff)
    # Read from the lower tail: 1 - F would lose all digits of a small p-value.
    return float(ndtr(-distance) if df is None else stdtr(df, -distance))


def _quantile(level: float, df: float | None) -> float:
    return float(ndtri(level) if df is None else stdtrit(df, level))


def _direction(result: WinRate) -> Direction | None:
    if result.win_rate is None or result.win_rate == 0.5:
        return None
    return "first" if result.win_rate > 0.5 else "second"


def _levels(p_values: Sequence[float | None], alpha: float) -> list[float]:
    values = np.array([1.0 if p is None else p for p in p_values])
    size = values.size
    if size == 0:
        return []
    order = np.argsort(values, kind="stable")
    steps = alpha / np.arange(size, 1, -1)
    # Where the row of rank r is left out, the values before it keep their step and those after
    # it move one step up: its first failure is the first before r, else the first from r on.
    before = np.append(np.flatnonzero(values[order[:-1]] >= steps), size - 1)[0]
    later = np.flatnonzero(values[order[1:]] >= steps)
    ranks = np.arange(size)
    n_passed = np.append(later, size - 1)[np.searchsorted(later, ranks)]
    n_passed = np.where(before < ranks, before, n_passed)
    levels = np.empty(size)
    levels[order] = alpha / (size - n_passed)
    return [float(level) for level in levels]

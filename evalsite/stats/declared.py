"""Claims that were written down before the votes, and what the votes make of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.special import ndtri

from evalsite.stats.claims import Table, p_above
from evalsite.stats.multiplicity import holm_where_known
from evalsite.stats.pairs import turned
from evalsite.stats.sequential import (
    anytime_interval,
    look_interval,
    p_any_time,
    p_over_looks,
    spending_boundaries,
)
from evalsite.stats.win_rate import WinRate

Kind = Literal["superiority", "non_inferiority", "equivalence"]
KINDS: tuple[Kind, ...] = ("superiority", "non_inferiority", "equivalence")


@dataclass(frozen=True, slots=True)
class Declared:
    """What somebody set out to show of a first system and a second one."""

    kind: Kind
    criterion: str
    first: int
    second: int
    margin: float | None = None  # around one half, in (0, 1/2); None for superiority

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a claim is of kind {', '.join(KINDS)}, not {self.kind}")
        if (self.margin is None) != (self.kind == "superiority"):
            raise ValueError("a margin belongs to non_inferiority and equivalence alone")
        if self.margin is not None and not 0 < self.margin < 0.5:
            raise ValueError(f"a margin lies between 0 and 1/2, not {self.margin}")


class ConfidenceTooSmall(ValueError):
    """The one-sided tests of a margin need an alpha below one half."""

    def __init__(self, confidence: float) -> None:
        super().__init__(f"claims with a margin need a confidence above 0.5, not {confidence:.10g}")


@dataclass(frozen=True, slots=True)
class Look:
    """The votes of a study as far as they had come; a closed one that nobody looked into
    before has a single look, with fraction 1."""

    fraction: float  # of the votes planned
    rates: Table


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the votes make of a declared claim. Rates are probabilities, of its first system.

    None stands for what cannot be computed, for want of votes.
    """

    declared: Declared
    rate: WinRate | None  # at the last look
    confidence: float  # of the interval: 1 - alpha, with a margin 1 - 2 alpha
    low: float | None  # at the last look
    high: float | None
    p_value: float | None  # over all looks
    p_holm: float | None  # over all claims that were declared
    shown: bool


def judge(
    declared: Sequence[Declared],
    looks: Sequence[Look],
    *,
    alpha: float = 0.05,
    tightest_at: float | None = None,
) -> tuple[Verdict, ...]:
    """Which of the claims declared before the study opened are shown by its votes.

    All declared claims, of whatever kind, are one family: Holm's adjustment keeps the chance
    that any false one is called shown below alpha. At each look a claim has the p-value

        superiority      p = min(1, 2 (1 - F_df(T(1/2))))
        non_inferiority  p = 1 - F_df(T(1/2 - margin))
        equivalence      p = max(1 - F_df(T(1/2 - margin)), F_df(T(1/2 + margin)))

    with T as in `equivalence`. Superiority has a direction, yet is tested two-sided, so that it
    agrees with the interval printed beside it. Over several looks `p_over_looks` joins them
    (one-sided p-values doubled before and halved after); at any time `p_any_time` takes the
    last. Then, of one claim alone, p < alpha exactly where at some look the interval with the
    confidence given, at that look's boundary, lies above one half (above 1/2 - margin, within
    1/2 -+ margin).

    Parameters
    ----------
    declared : in the order of their declaration.
    looks : in their order, the present one last; none where nothing was counted. A pair may
        stand in a table in either order.
    alpha : the chance of any false claim, in (0, 1); with a margin below 1/2.
    tightest_at : for looks at any time: as for `anytime_interval`; only the last look counts.

    Returns
    -------
    One Verdict for each claim. A claim without votes belongs to the family, as a test failed.

    Raises
    ------
    ValueError : alpha out of range (ConfidenceTooSmall where margins want it below 1/2), and
        whatever `spending_boundaries` refuses in fractions.

    Source
    ------
    FORMULAS.md, "Declared claims".
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    if alpha >= 0.5 and any(claim.margin is not None for claim in declared):
        raise ConfidenceTooSmall(1 - alpha)
    found = [_judge(claim, looks, alpha, tightest_at) for claim in declared]
    adjusted = holm_where_known([verdict.p_value for verdict in found])
    return tuple(
        replace(verdict, p_holm=p_holm, shown=p_holm is not None and p_holm < alpha)
        for verdict, p_holm in zip(found, adjusted, strict=True)
    )


def _judge(
    claim: Declared, looks: Sequence[Look], alpha: float, tightest_at: float | None
) -> Verdict:
    confidence = 1 - alpha if claim.margin is None else 1 - 2 * alpha
    rates = [_rate_of(claim, look) for look in looks]
    last = rates[-1] if rates else None
    if last is None or last.win_rate is None:
        return Verdict(claim, last, confidence, None, None, None, None, shown=False)
    p_values = [_p_value(claim, rate) for rate in rates]
    fractions = [look.fraction for look in looks]
    if tightest_at is not None:
        limits = anytime_interval(last, tightest_at=tightest_at, confidence=confidence)
        p_value = _of_one_side(
            claim,
            p_values[-1:],
            lambda p: p_any_time(p[0], last.n, tightest_at=tightest_at, confidence=confidence),
        )
    elif fractions == [1.0]:  # nobody looked before
        limits = look_interval(last, float(ndtri((1 + confidence) / 2)))
        p_value = p_values[0]
    else:
        limits = look_interval(last, spending_boundaries(fractions, confidence=confidence)[-1])
        p_value = _of_one_side(claim, p_values, lambda p: p_over_looks(p, fractions))
    return Verdict(claim, last, confidence, limits.low, limits.high, p_value, None, shown=False)


def _of_one_side(
    claim: Declared, p_values: list[float], join: Callable[[list[float]], float]
) -> float:
    """Join two-sided p-values; those of a claim with a margin are one-sided, so they are doubled
    before and the result is halved, 1 standing for one half and more."""
    if claim.margin is None:
        return join(p_values)
    joined = join([min(1.0, 2 * p) for p in p_values])
    return joined / 2 if joined < 1 else 1.0


def _rate_of(claim: Declared, look: Look) -> WinRate | None:
    known = look.rates.get((claim.criterion, (claim.first, claim.second)))
    if known is not None:
        return known
    other = look.rates.get((claim.criterion, (claim.second, claim.first)))
    return None if other is None else turned(other)


def _p_value(claim: Declared, rate: WinRate | None) -> float:
    """Of one look by itself; 1 where there are no votes yet."""
    if rate is None or rate.win_rate is None or rate.n_eff is None:
        return 1.0
    if claim.margin is None:
        return min(1.0, 2 * p_above(rate.win_rate, rate.n_eff, rate.df, 0.5))
    bound = 0.5 - claim.margin
    p_value = p_above(rate.win_rate, rate.n_eff, rate.df, bound)
    if claim.kind == "equivalence":
        p_value = max(p_value, p_above(1 - rate.win_rate, rate.n_eff, rate.df, bound))
    return p_value

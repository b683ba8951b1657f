"""Signs that a rater did not look. They are shown to people and change no number."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.agreement import shared_units
from evalsite.stats.clusters import Codes, Floats, Groups, Labels, cross, factorise, group
from evalsite.stats.signs import (
    Sign,
    Truths,
    agreement_with_others,
    left_choices,
    medians,
    missed_checks,
    repeated_choices,
    side_streaks,
)
from evalsite.stats.votes import Votes
from evalsite.stats.win_rate import checked_outcomes, clustered_interval

Flag = Literal[
    "one-sided", "side streaks", "low agreement", "missed checks", "inconsistent", "too fast"
]


@dataclass(frozen=True, slots=True)
class RaterRules:
    """What counts as a sign; to be declared before a study opens."""

    level: float = 0.001  # p-value of a sign that stands alone: 33 of 40 on one side
    lenient_level: float = 0.02  # of missed checks (3 of 12), and of any sign beside speed
    miss_rate: float = 0.05  # how often an honest rater misses a check
    fast: float = 0.5  # a median response below this share of the usual one
    least_spread: float = 0.01  # intra-class correlation that honest raters are granted at least

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1:
                raise ValueError(f"{field.name} must lie between 0 and 1, not {value}")


DEFAULT_RULES = RaterRules()


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """Answers to showings that have a right answer, one per place in both columns."""

    raters: ArrayLike  # numbers as in Votes.raters
    missed: ArrayLike  # true or false


@dataclass(frozen=True, slots=True, eq=False)
class Repeats:
    """Comparisons that a rater answered twice, the second time with the sides exchanged."""

    raters: ArrayLike  # numbers as in Votes.raters
    outcomes: ArrayLike  # of the comparison's first system: 1, 0.5, 0
    again: ArrayLike  # the same, at the second showing
    first_on_left: ArrayLike  # at the first showing


@dataclass(frozen=True, slots=True)
class RaterProfile:
    """What one rater did. Shares are in [0, 1]; None where there was nothing to see."""

    rater: int  # number as in Votes.raters
    n: int
    n_ties: int
    left_share: float | None  # of the votes that are no ties
    left_p: float | None
    longest_streak: int  # of choices of one side, ties skipped
    streak_p: float | None
    median_ms: float | None
    speed: float | None  # median_ms over the median of all raters' medians
    n_compared: int  # votes that met a majority of others
    agreement: float | None
    expected_agreement: float | None
    agreement_p: float | None
    n_checks: int
    n_missed: int
    checks_p: float | None
    n_repeats: int
    n_consistent: int
    repeats_p: float | None
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """How often raters give the same answer again when the sides are exchanged."""

    n: int
    n_consistent: int  # the same system, or no preference twice
    n_left_twice: int  # the other system, since it stood on the same side
    n_right_twice: int
    share: float
    low: float | None  # interval over raters
    high: float | None
    n_raters: int


@dataclass(frozen=True, slots=True)
class RaterDiagnostics:
    """All raters by number, and what they are together."""

    profiles: tuple[RaterProfile, ...]
    consistency: SelfConsistency | None  # None without repeats
    median_ms: float | None  # the median of all raters' medians


def rater_diagnostics(
    votes: Votes,
    first_on_left: ArrayLike,
    *,
    criteria: Labels | None = None,
    response_ms: ArrayLike | None = None,
    checks: Checks | None = None,
    repeats: Repeats | None = None,
    rules: RaterRules = DEFAULT_RULES,
) -> RaterDiagnostics:
    """What each rater did, beside what an honest rater would do.

    Five signs, each with a p-value under honest work, small where it would be rare:

        one-sided       share of left choices                     `left_choices`
        side streaks    longest run of one side                   `side_streaks`
        low agreement   with the majority of the others, by unit  `agreement_with_others`
        missed checks   more than honest raters miss              `missed_checks`
        inconsistent    on mirrored repeats, against the others   `repeated_choices`

    A sign is flagged where p <= level (missed checks: lenient_level). A rater whose median
    response is below `fast` times the usual one is flagged `too fast` only if a sign stands at
    the lenient level, and so is then that sign. No rater is flagged for speed alone, and none
    loses a vote here: these are reasons to look, and taste may be one.

    Parameters
    ----------
    votes : in the order in which they were given. Of one criterion, or of several with
        `criteria`. Votes without a rater count as others only.
    first_on_left : whether `votes.first` stood on the left, one truth value per vote.
    criteria : label of each vote's criterion; None if there is one.
    response_ms : milliseconds to each answer, >= 0, NaN where unknown.
    checks, repeats : answers beside the counted votes. Raters have the numbers of
        `votes.raters`; higher ones are raters without a counted vote.
    rules : levels and rates.

    Returns
    -------
    RaterDiagnostics, one profile per number from 0 to the highest.

    Raises
    ------
    ValueError : columns of different length, sides or misses that are not true or false,
        impossible outcomes or times, raters that are not whole numbers >= 0.

    Source
    ------
    FORMULAS.md, "Raters".
    """
    times = None if response_ms is None else _checked_times(response_ms, votes.n)
    seen_checks, seen_repeats = _read_checks(checks), _read_repeats(repeats)
    n_raters = _highest(votes.raters, seen_checks[0], seen_repeats.raters) + 1
    chose_left = (votes.outcomes == 1) == _truths(first_on_left, votes.n, "side")
    decided = votes.outcomes != 0.5
    shown = decided & (votes.raters >= 0)
    sides = left_choices(votes.raters[shown], chose_left[shown], n_raters, rules.least_spread)
    longest, streak_p = side_streaks(votes.raters[shown], chose_left[shown], sides)
    signs = _Signs(
        n=np.bincount(votes.raters[votes.raters >= 0], minlength=n_raters),
        sides=sides,
        longest=longest,
        streak_p=streak_p,
        median_ms=_median_times(votes.raters, times, n_raters),
        agreement=_agreement(votes, criteria, decided, n_raters, rules),
        checks=missed_checks(*seen_checks, n_raters, rules.miss_rate),
        repeats=repeated_choices(
            seen_repeats.raters, seen_repeats.same, n_raters, rules.least_spread
        ),
    )
    known = signs.median_ms[~np.isnan(signs.median_ms)]
    usual = float(np.median(known)) if known.size else None
    return RaterDiagnostics(
        profiles=tuple(signs.profile(rater, usual, rules) for rater in range(n_raters)),
        consistency=seen_repeats.consistency(),
        median_ms=usual,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Signs:
    """Every sign, one place per rater."""

    n: Codes
    sides: Sign
    longest: Codes
    streak_p: Floats
    median_ms: Floats
    agreement: Sign
    checks: Sign
    repeats: Sign

    def profile(self, r: int, usual_ms: float | None, rules: RaterRules) -> RaterProfile:
        speed = self.median_ms[r] / usual_ms if usual_ms else np.nan
        return RaterProfile(
            rater=r,
            n=int(self.n[r]),
            n_ties=int(self.n[r] - self.sides.trials[r]),
            left_share=_share(self.sides, r),
            left_p=_known(self.sides.p_values[r]),
            longest_streak=int(self.longest[r]),
            streak_p=_known(self.streak_p[r]),
            median_ms=_known(self.median_ms[r]),
            speed=_known(speed),
            n_compared=int(self.agreement.trials[r]),
            agreement=_share(self.agreement, r),
            expected_agreement=_known(self.agreement.expected[r]),
            agreement_p=_known(self.agreement.p_values[r]),
            n_checks=int(self.checks.trials[r]),
            n_missed=int(self.checks.successes[r]),
            checks_p=_known(self.checks.p_values[r]),
            n_repeats=int(self.repeats.trials[r]),
            n_consistent=int(self.repeats.successes[r]),
            repeats_p=_known(self.repeats.p_values[r]),
            flags=self._flags(r, speed, rules),
        )

    def _flags(self, r: int, speed: float, rules: RaterRules) -> tuple[Flag, ...]:
        p_values: dict[Flag, float] = {
            "one-sided": self.sides.p_values[r],
            "side streaks": self.streak_p[r],
            "low agreement": self.agreement.p_values[r],
            "missed checks": self.checks.p_values[r],
            "inconsistent": self.repeats.p_values[r],
        }
        lenient: list[Flag] = [flag for flag, p in p_values.items() if p <= rules.lenient_level]
        if speed < rules.fast and lenient:
            return (*lenient, "too fast")
        return tuple(f for f in lenient if f == "missed checks" or p_values[f] <= rules.level)


@dataclass(frozen=True, slots=True, eq=False)
class _Repeats:
    """Repeats, checked."""

    raters: Codes
    same: Truths
    decided: Truths  # both times
    left_first: Truths  # the first answer was for the left; of decided ones

    def consistency(self) -> SelfConsistency | None:
        if self.raters.size == 0:
            return None
        turned = self.decided & ~self.same
        found = clustered_interval(self.same.astype(np.float64), self.raters, None)
        return SelfConsistency(
            n=self.same.size,
            n_consistent=int(self.same.sum()),
            n_left_twice=int((turned & self.left_first).sum()),
            n_right_twice=int((turned & ~self.left_first).sum()),
            share=float(self.same.mean()),
            low=found.low,
            high=found.high,
            n_raters=group(self.raters).count,
        )


def _agreement(
    votes: Votes, criteria: Labels | None, decided: Truths, n_raters: int, rules: RaterRules
) -> Sign:
    for_first = (votes.outcomes == 1) == (votes.first < votes.second)
    units = units_of(votes, criteria)
    kept = Groups(units.codes[decided], units.sizes)
    return agreement_with_others(
        votes.raters[decided], for_first[decided], kept, n_raters, rules.least_spread
    )


def units_of(votes: Votes, criteria: Labels | None) -> Groups:
    """The votes that are about the same: one criterion, prompt and pair."""
    units = shared_units(votes)
    if criteria is None or votes.n == 0:
        return units
    return cross(units, group(factorise(criteria, votes.n, "criterion")))


def _median_times(raters: Codes, times: Floats | None, n_raters: int) -> Floats:
    if times is None:
        return np.full(n_raters, np.nan)
    kept = (raters >= 0) & ~np.isnan(times)
    return medians(raters[kept], times[kept], n_raters)


def _read_checks(checks: Checks | None) -> tuple[Codes, Truths]:
    if checks is None:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.bool_)
    raters = _numbers(checks.raters, "checks")
    return raters, _truths(checks.missed, raters.size, "missed check")


def _read_repeats(repeats: Repeats | None) -> _Repeats:
    if repeats is None:
        nothing = np.empty(0, dtype=np.bool_)
        return _Repeats(np.empty(0, dtype=np.intp), nothing, nothing, nothing)
    raters = _numbers(repeats.raters, "repeats")
    once, again = checked_outcomes(repeats.outcomes), checked_outcomes(repeats.again)
    if not raters.size == once.size == again.size:
        raise ValueError(f"{once.size} and {again.size} outcomes for {raters.size} repeats")
    on_left = _truths(repeats.first_on_left, raters.size, "side")
    decided = (once != 0.5) & (again != 0.5)
    return _Repeats(raters, once == again, decided, (once == 1) == on_left)


def _numbers(column: ArrayLike, what: str) -> Codes:
    numbers = np.asarray(column)
    if numbers.size == 0:
        return np.empty(0, dtype=np.intp)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise ValueError(f"raters of {what} must be a flat list of whole numbers from 0")
    return numbers.astype(np.intp, copy=False)


def _truths(column: ArrayLike, n: int, what: str) -> Truths:
    values = np.asarray(column)
    if values.shape != (n,):
        raise ValueError(f"{values.size} values of '{what}' where there should be {n}")
    if n and values.dtype != np.bool_:
        raise ValueError(f"every '{what}' must be true or false")
    return values.astype(np.bool_, copy=False)


def _checked_times(response_ms: ArrayLike, n: int) -> Floats:
    times = np.asarray(response_ms, dtype=np.float64)
    if times.shape != (n,):
        raise ValueError(f"{times.size} response times for {n} votes")
    if (times < 0).any() or np.isinf(times).any():
        raise ValueError("a response time is a number of milliseconds from 0")
    return times


def _highest(*columns: Codes) -> int:
    return max((int(column.max()) for column in columns if column.size), default=-1)


def _share(sign: Sign, r: int) -> float | None:
    return float(sign.successes[r] / sign.trials[r]) if sign.trials[r] else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

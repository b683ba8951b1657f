"""What a goal needs: the least of raters, prompts or votes, and what no number of them gives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from evalsite.stats.design import (
    DEFAULTS,
    PROVED_PROMPTS,
    PROVED_RATERS,
    Correlations,
    Design,
    expect,
)
from evalsite.stats.intervals import check_confidence
from evalsite.stats.planning import check_rate, power, power_of, precision

Quantity = Literal["raters", "prompts", "votes_per_prompt"]

MOST = 10_000_000
"""No plan asks for more of anything."""


class OutOfReach(ValueError):
    """No number of what may be added reaches the goal; says what stands in the way."""


@dataclass(frozen=True, slots=True)
class HalfWidth:
    """The goal that the interval reaches so far to either side, at this win rate."""

    value: float
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.value < 0.5:
            raise ValueError(f"a half-width lies between 0 and 1/2, not {self.value}")
        check_rate(self.rate)


@dataclass(frozen=True, slots=True)
class Power:
    """The goal to decide with this probability where the true win rate is this one."""

    value: float
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.value < 1:
            raise ValueError(f"a power lies between 0 and 1, not {self.value}")
        check_rate(self.rate)
        if self.rate == 0.5:
            raise ValueError("there is nothing to find at a win rate of one half")


Goal = HalfWidth | Power


def smallest_difference(
    design: Design,
    *,
    power: float = 0.8,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> float:
    """The smallest difference from one half that a design finds with a wanted power.

    The solution d of power(1/2 + d) = power, which grows with d; the smallest one where a report
    of votes that are all equal would decide nothing, so that the power falls again near 1/2.

    Parameters
    ----------
    design : of one pair under one criterion.
    power : wanted, above 1 - confidence and below 1.
    correlations : of votes.
    confidence : as for `power`.

    Returns
    -------
    The difference in win rate, in (0, 1/2).

    Raises
    ------
    ValueError : a power outside (1 - confidence, 1), confidence outside (0, 1). OutOfReach
        where not even a system that nearly always wins would be found.

    Source
    ------
    As for `power`.
    """
    check_confidence(confidence)
    if not 1 - confidence < power < 1:
        raise ValueError(f"a power lies between {1 - confidence:g} and 1, not {power}")
    expected = expect(design, correlations)

    def missing(difference: float) -> float:
        return power_of(expected, 0.5 + difference, confidence) - power

    tried = np.linspace(1e-9, 0.5 - 1e-6, 65)
    found = next((k for k, difference in enumerate(tried) if missing(difference) >= 0), None)
    if found is None:
        raise OutOfReach(f"{_words(design)} find no difference with a power of {power:g}")
    return float(brentq(missing, tried[found - 1], tried[found], xtol=1e-9)) if found else 1e-9


def fewest(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> Design:
    """The least of one quantity that reaches a goal, all else of a design as it is.

    Found by halving: more raters, prompts or votes help. (With 20 votes or more none of them
    costs more than .7 points of power or .001 of half-width: three raters borrow degrees of
    freedom that four do not.) Not everything can be bought with votes, though: with R raters no
    number of prompts gives a half-width h unless

        R > z^2 p (1 - p) rho_R / h^2

    (`rater_floor`, which counts Student's quantile in), and with P prompts no number of raters
    does unless the like holds for P and rho_P.

    Parameters
    ----------
    quantity : `raters` (the votes stay, in more hands: from PROVED_RATERS to one for each vote),
        `prompts` (the votes per prompt stay; from PROVED_PROMPTS on, since promises of fewer are
        too high), or `votes_per_prompt` (at most one of each rater).
    design : its own number of that quantity is not used.
    goal : a HalfWidth or a Power.
    correlations : of votes.
    confidence : as for `power`.

    Returns
    -------
    The design with that number.

    Raises
    ------
    OutOfReach (a ValueError) : no such number up to MOST does; its text says what is needed first.

    Source
    ------
    FORMULAS.md, "Planning".
    """
    check_confidence(confidence)
    found = _fewest(quantity, design, goal, correlations, confidence)
    if found is None:
        raise OutOfReach(_obstacle(quantity, design, goal, correlations, confidence))
    return found


def rater_floor(
    goal: Goal,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
    load_spread: float = 0.0,
) -> int:
    """The number of raters below which no number of votes and prompts reaches a goal.

    With endless votes on endless prompts the variance is p (1 - p) rho_R (1 + c^2) / R. For a
    half-width h the floor lies a little above z^2 p (1 - p) rho_R (1 + c^2) / h^2, since a
    variance estimated from R raters is read with Student's t.

    Parameters
    ----------
    goal : a HalfWidth or a Power.
    correlations : of votes.
    confidence : as for `power`.
    load_spread : c, as in `Design`.

    Returns
    -------
    The number of raters, at least PROVED_RATERS.

    Raises
    ------
    ValueError : confidence outside (0, 1), a spread below 0. OutOfReach above MOST.

    Source
    ------
    FORMULAS.md, "Planning".
    """
    check_confidence(confidence)
    endless = Design(MOST, MOST, 1, load_spread=load_spread)
    found = _fewest("raters", endless, goal, correlations, confidence)
    if found is None:
        raise OutOfReach(f"{MOST} raters are not enough for {_goal_words(goal)}")
    return found.raters


def _reaches(design: Design, goal: Goal, correlations: Correlations, confidence: float) -> bool:
    if isinstance(goal, Power):
        return (
            power(design, goal.rate, correlations=correlations, confidence=confidence) >= goal.value
        )
    found = precision(design, rate=goal.rate, correlations=correlations, confidence=confidence)
    return found.half_width <= goal.value


def _fewest(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    correlations: Correlations,
    confidence: float,
) -> Design | None:
    def enough(number: int) -> bool:
        return _reaches(_with(design, quantity, number), goal, correlations, confidence)

    few, many = {
        "raters": (min(max(design.votes_per_prompt, PROVED_RATERS), design.votes), design.votes),
        "prompts": (PROVED_PROMPTS, MOST),
        "votes_per_prompt": (1, design.raters),
    }[quantity]
    found = _least(enough, few, many)
    return None if found is None else _with(design, quantity, found)


def _least(enough: Callable[[int], bool], few: int, many: int) -> int | None:
    """The least number from few to many that is enough, or None; more is enough too."""
    if not enough(many):
        return None
    short = few - 1
    while many - short > 1:
        middle = (short + many) // 2
        if enough(middle):
            many = middle
        else:
            short = middle
    return many


def _with(design: Design, quantity: Quantity, number: int) -> Design:
    changed: dict[str, int] = {quantity: number}
    return replace(design, **changed)  # type: ignore[arg-type]


def _obstacle(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    correlations: Correlations,
    confidence: float,
) -> str:
    """Why no number of a quantity reaches the goal, and what is needed first."""

    def prompts_enough(number: int) -> bool:
        """All that may be added to so many prompts is there: a rater for each vote, or all vote."""
        raters = number * design.votes_per_prompt if quantity == "raters" else design.raters
        each = design.raters if quantity == "votes_per_prompt" else design.votes_per_prompt
        full = replace(design, raters=raters, prompts=number, votes_per_prompt=each)
        return _reaches(full, goal, correlations, confidence)

    def raters_enough(number: int) -> bool:
        endless = replace(design, raters=number, prompts=MOST, votes_per_prompt=1)
        return _reaches(endless, goal, correlations, confidence)

    first, needed = "prompts", _least(prompts_enough, 1, MOST) if quantity != "prompts" else None
    if needed is None:  # all raters vote on endless prompts, and still are too few
        first, needed = "raters", _least(raters_enough, 1, MOST)
    what = quantity.replace("_", " ")
    if needed is None:
        return f"{_words(design, quantity)} cannot give {_goal_words(goal)} with any {what}"
    return (
        f"{_words(design, quantity)} cannot give {_goal_words(goal)} with any number of {what}: "
        f"at least {needed:,} {first} are needed, since votes "
        f"{'of one rater' if first == 'raters' else 'on one prompt'} are alike (correlation "
        f"{correlations.rater if first == 'raters' else correlations.prompt:g})"
    )


def _words(design: Design, free: Quantity | None = None) -> str:
    each = design.votes_per_prompt
    parts = {
        "raters": f"{design.raters:,} rater{'s' * (design.raters != 1)}",
        "prompts": f"{design.prompts:,} prompt{'s' * (design.prompts != 1)}",
        "votes_per_prompt": f"{each:,} vote{'s' * (each != 1)} on each prompt",
    }
    return ", ".join(words for name, words in parts.items() if name != free)


def _goal_words(goal: Goal) -> str:
    if isinstance(goal, Power):
        return f"a power of {goal.value:g} against a win rate of {goal.rate:g}"
    return f"a half-width of {goal.value:g} at a win rate of {goal.rate:g}"

"""Votes drawn from a known truth: raters and prompts each pull the outcome their own way."""

from functools import cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq
from scipy.special import expit

Votes = tuple[np.ndarray, np.ndarray, np.ndarray]


@cache
def centre_for(rate: float, sd: float) -> float:
    """The logit at which P(win), averaged over raters and prompts, is `rate`."""
    nodes, weights = hermegauss(80)
    weights = weights / weights.sum()
    spread = np.sqrt(2.0) * sd
    return float(brentq(lambda c: weights @ expit(c + spread * nodes) - rate, -20, 20))


def draw_votes(
    rng: np.random.Generator,
    *,
    raters: int = 30,
    prompts: int = 100,
    per_prompt: int = 3,
    rate: float = 0.5,
    sd: float = 1.0,
    heavy: bool = False,
    tie: float = 0.0,
) -> Votes:
    """Outcomes, rater and prompt of each vote; a rater votes at most once on a prompt.

    `sd` is the logit standard deviation of raters and, separately, of prompts. Under `heavy`
    load the k-th busiest rater works in proportion to 1/k. A share `tie` of votes is a tie.
    """
    load = 1 / np.arange(1, raters + 1) if heavy else np.ones(raters)
    # Sorting weights with Gumbel noise draws raters without replacement, in proportion to load.
    order = np.argsort(-(np.log(load) + rng.gumbel(size=(prompts, raters))), axis=1)
    who = order[:, :per_prompt].ravel()
    what = np.repeat(np.arange(prompts), per_prompt)
    pull = sd * rng.standard_normal(raters)[who] + sd * rng.standard_normal(prompts)[what]
    wins = rng.random(who.size) < expit(centre_for(rate, sd) + pull)
    outcomes = np.where(rng.random(who.size) < tie, 0.5, wins.astype(float))
    return outcomes, who, what

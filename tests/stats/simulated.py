"""Votes drawn from a known truth: raters and prompts each pull the outcome their own way."""

from functools import cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq
from scipy.special import expit

Votes = tuple[np.ndarray, np.ndarray, np.ndarray]


@cache
def _centre(rate: float, spread: float) -> float:
    """The logit at which P(win), averaged over raters and prompts, is `rate`."""
    nodes, weights = hermegauss(80)
    weights = weights / weights.sum()
    return float(brentq(lambda c: weights @ expit(c + spread * nodes) - rate, -20, 20))


def draw_votes(
    rng: np.random.Generator,
    *,
    raters: int = 30,
    prompts: int = 100,
    per_prompt: int = 3,
    rate: float = 0.5,
    sd: float = 1.0,
    prompt_sd: float | None = None,
    heavy: bool = False,
    tie: float = 0.0,
) -> Votes:
    """Outcomes, rater and prompt of each vote; a rater votes at most once on a prompt.

    `sd` is the logit standard deviation of raters and, where `prompt_sd` does not say otherwise,
    of prompts. Under `heavy` load the k-th busiest rater works in proportion to 1/k. A share
    `tie` of votes is a tie, whoever would have won: the truth is then (1 - tie) rate + tie / 2.
    """
    load = 1 / np.arange(1, raters + 1) if heavy else np.ones(raters)
    # Sorting weights with Gumbel noise draws raters without replacement, in proportion to load.
    order = np.argsort(-(np.log(load) + rng.gumbel(size=(prompts, raters))), axis=1)
    who = order[:, :per_prompt].ravel()
    what = np.repeat(np.arange(prompts), per_prompt)
    per = sd if prompt_sd is None else prompt_sd
    pull = sd * rng.standard_normal(raters)[who] + per * rng.standard_normal(prompts)[what]
    wins = rng.random(who.size) < expit(_centre(rate, np.hypot(sd, per)) + pull)
    outcomes = np.where(rng.random(who.size) < tie, 0.5, wins.astype(float))
    return outcomes, who, what

"""Votes drawn from a known truth: raters and prompts each pull the outcome their own way."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq, root
from scipy.special import expit

from evalsite.stats import Correlations, check_votes
from evalsite.stats import Votes as CheckedVotes

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


def correlation(rate: float, own_sd: float, other_sd: float) -> float:
    """Of votes that share a taste with the logit standard deviation `own_sd`."""
    nodes, weights = hermegauss(60)
    weights = weights / weights.sum()
    centre = _centre(rate, np.hypot(own_sd, other_sd))
    given = expit(centre + own_sd * nodes[:, None] + other_sd * nodes) @ weights
    return float(weights @ (given - rate) ** 2 / (rate * (1 - rate)))


def tastes(rate: float, alike: Correlations) -> tuple[float, float]:
    """The logit standard deviations of raters and of prompts that make votes so alike."""

    def missing(deviations: np.ndarray) -> list[float]:
        sd, prompt_sd = abs(deviations)
        return [
            correlation(rate, sd, prompt_sd) - alike.rater,
            correlation(rate, prompt_sd, sd) - alike.prompt,
        ]

    found = root(missing, [0.3 + 4 * alike.rater, 0.3 + 4 * alike.prompt], tol=1e-8)
    worst = max(map(abs, missing(found.x)))
    if worst > 1e-4:
        raise ValueError(f"no tastes make votes so alike at a win rate of {rate}: {alike}")
    sd, prompt_sd = abs(found.x)
    return float(sd), float(prompt_sd)


def draw_study(
    rng: np.random.Generator,
    ratings: Sequence[float],
    *,
    raters: int = 30,
    prompts: int = 50,
    per_prompt: int = 8,
    sd: float = 0.7,
    tie: float = 0.0,
    side: float = 0.0,
) -> tuple[CheckedVotes, np.ndarray]:
    """Votes of raters and prompts who each add a taste of their own to every system.

    `sd` is the logit standard deviation of a taste, of raters and of prompts. A rater votes at
    most once on a prompt, on a pair drawn at random. With the votes comes whether the first
    system stood on the left, which adds `side` to its logit (takes it off on the right).
    """
    who = rng.random((prompts, raters)).argsort(axis=1)[:, :per_prompt].ravel()
    what = np.repeat(np.arange(prompts), per_prompt)
    size = len(ratings)
    first = rng.integers(0, size, who.size)
    second = (first + rng.integers(1, size, who.size)) % size
    taste, fit = sd * rng.standard_normal((raters, size)), sd * rng.standard_normal((prompts, size))
    own = np.asarray(ratings) + taste[who] + fit[what]
    rows = np.arange(who.size)
    left = rng.random(who.size) < 0.5
    logits = own[rows, first] - own[rows, second] + side * np.where(left, 1, -1)
    outcomes = np.where(rng.random(who.size) < expit(logits), 1.0, 0.0)
    outcomes[rng.random(who.size) < tie] = 0.5
    return check_votes(first, second, outcomes, who, what, n_systems=size), left


def mean_rates(ratings: Sequence[float], sd: float) -> np.ndarray:
    """Win rates of all pairs in `draw_study` over all tastes, shape (K, K)."""
    nodes, weights = hermegauss(60)
    gaps = np.subtract.outer(ratings, ratings)
    # Two raters' tastes and two prompts', all of the same spread.
    return expit(gaps[..., None] + 2 * sd * nodes) @ weights / weights.sum()

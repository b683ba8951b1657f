"""How often each rater finds what the raters together take for the answer."""

import numpy as np
from scipy.special import expit, logit

from evalsite.stats.clusters import Floats, Labels
from evalsite.stats.newton import NotConverged
from evalsite.stats.raters import units_of
from evalsite.stats.votes import Votes

TOLERANCE = 1e-6
LIMIT = 5000


def rater_reliability(
    votes: Votes, *, criteria: Labels | None = None, limit: int = LIMIT
) -> tuple[float | None, ...]:
    """Dawid and Skene's model with one number per rater: 1/2 for a coin.

    Each unit (criterion, prompt and pair) has a consensus, either system as likely; rater r
    chooses it with probability a_r, independently of the others. a_r has the prior beta (2, 2),
    so that few votes say little. With x_i = 1 where vote i is for the first system, else -1,
    steps until no a_r moves by more than 1e-6:

        q_u = 1 / (1 + exp(-sum_{i in u} x_i logit a_r(i)))     chance of the first system
        a_r = (1 + sum_{i of r} (q_u(i) if x_i = 1 else 1 - q_u(i))) / (2 + n_r)

    from a_r = 0.7 (raters are better than a coin). Ties, and units with one vote, are left out.

    It is one more look at raters and weighs no vote. Where images differ in taste there is no
    right answer: a low number may be a minority's. Where raters hardly agree at all it follows
    chance; `agreement_with_others` then has no small p-value, and this no meaning.

    Parameters
    ----------
    votes : of one criterion, or of several with `criteria`.
    criteria : label of each vote's criterion; None if there is one.
    limit : most steps.

    Returns
    -------
    a_r for each rater's number from 0; None for raters with no vote that counts here.

    Raises
    ------
    ValueError : criteria of another length.
    NotConverged : some a_r still moves after `limit` steps.

    Source
    ------
    A. P. Dawid and A. M. Skene, Applied Statistics 28 (1979) 20-28, with one error rate for both
    answers.
    """
    units = units_of(votes, criteria)
    decided = (votes.outcomes != 0.5) & (votes.raters >= 0)
    numbers = units.codes[decided]
    shared = np.bincount(numbers, minlength=units.count)[numbers] > 1
    numbers, raters = numbers[shared], votes.raters[decided][shared]
    for_first = (votes.outcomes == 1) == (votes.first < votes.second)
    sides = np.where(for_first[decided][shared], 1.0, -1.0)
    n_raters = int(votes.raters.max()) + 1 if votes.n else 0
    n = np.bincount(raters, minlength=n_raters)
    found: Floats = np.full(n_raters, 0.7)
    for _ in range(limit):
        odds = np.bincount(numbers, weights=sides * logit(found)[raters], minlength=units.count)
        agrees = np.bincount(raters, weights=expit(sides * odds[numbers]), minlength=n_raters)
        before, found = found, (1 + agrees) / (2 + n)
        if np.abs(found - before).max(initial=0) < TOLERANCE:
            return tuple(float(a) if k else None for a, k in zip(found, n, strict=True))
    raise NotConverged(f"reliabilities still move after {limit} steps")

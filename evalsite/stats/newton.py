"""Newton's method for likelihoods of paired comparisons: damped, with a limit, never silent."""

from collections.abc import Callable

import numpy as np

from evalsite.stats.clusters import Floats

LIMIT = 200
TOLERANCE = 1e-8


class NotConverged(ArithmeticError):
    """The maximum of a likelihood was not reached."""


def climb(
    slope: Callable[[Floats], tuple[Floats, Floats]],
    start: Floats,
    n_ratings: int,
    tolerance: float,
    limit: int = LIMIT,
) -> Floats:
    """The maximum of a concave log-likelihood of paired comparisons, or of many at once.

    Newton's step is shortened to log(1 + d)/d of itself, d being the furthest that it moves
    any logit. Along a line the third derivative of these likelihoods is at most d times the
    second, for which this length never overshoots: every step climbs, and the last ones are
    whole. The ratings keep the mean of `start`, since the likelihood does not know it.

    Parameters
    ----------
    slope : gradient (..., D) and information (..., D, D), minus the second derivative, at
        parameters (..., D): the ratings first, then at most one other.
    start : parameters to start from.
    n_ratings : how many of the D are ratings.
    tolerance : largest gradient at which to stop.
    limit : most steps.

    Returns
    -------
    The parameters, shape of start.

    Raises
    ------
    NotConverged : the gradient is still above the tolerance after the last step, or there is
        no step to take.

    Source
    ------
    F. Bach, Electronic Journal of Statistics 4 (2010) 384-414; T. Sun and Q. Tran-Dinh,
    Mathematical Programming 178 (2019) 145-213, for the length of the step.
    """
    found = start
    for _ in range(limit):
        gradient, information = slope(found)
        if np.abs(gradient).max() < tolerance:
            return found
        try:
            step = np.linalg.solve(anchored(information, n_ratings), gradient[..., None])[..., 0]
        except np.linalg.LinAlgError as error:
            raise NotConverged("the likelihood has no single maximum") from error
        ratings, others = step[..., :n_ratings], step[..., n_ratings:]
        reach = np.ptp(ratings, axis=-1) + np.abs(others).sum(axis=-1)
        length = np.log1p(reach) / np.where(reach > 0, reach, 1.0)
        found = found + np.where(reach > 0, length, 1.0)[..., None] * step
    raise NotConverged(f"the gradient is not below {tolerance:.0e} after {limit} steps")


def tolerance_for(n_votes: float) -> float:
    """1e-8 up to a million votes; beyond, sums of so many terms are not rounded more finely."""
    return TOLERANCE * max(1.0, n_votes / 1e6)


def anchored(information: Floats, n_ratings: int) -> Floats:
    """The information made invertible: it says nothing about the mean of the ratings.

    What is added acts on that mean only; solutions for gradients, which sum to nothing over
    the ratings, are the same as without it, with mean zero.
    """
    size = information.shape[-1]
    block = np.zeros((size, size))
    block[:n_ratings, :n_ratings] = 1 / n_ratings
    scale = np.trace(information, axis1=-2, axis2=-1) / size
    return np.asarray(information + scale[..., None, None] * block)


def inverse_of(information: Floats, n_ratings: int) -> Floats:
    """An inverse of the information, right for all contrasts of ratings."""
    return np.asarray(np.linalg.inv(anchored(information, n_ratings)), dtype=np.float64)

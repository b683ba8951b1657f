"""What simulated raters like: a declared distribution of tastes over what a picture shows.

A rater looks at the pixels, sees what `generation.tiny.scorer` sees, and weighs it by a taste of
their own. So the truth of a simulated study comes from the pictures, and not from a table of
made-up win rates. numpy only.

With the features x of a picture, the utility of a picture to rater r under a question of one
kind is u = w_r . x, the weights w_r being normal and independent, N(mean, (SPREAD mean)^2). Then

    d = (u_left - u_right) / scale_r + bias_r,  log scale_r ~ N(0, SCALE^2),  bias_r ~ N(0, BIAS^2)
    P(left) = logistic(d - m),  P(right) = logistic(-d - m),  P(no preference) = the rest

with the margin m = TIE_MARGIN where ties are offered, and 0 where they are not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generation.tiny.scorer import Score

FEATURES = ("colours", "count", "relation", "shapes", "background", "size", "quality")
MEANS = {  # kind of question -> what matters to its raters on average, in the order of FEATURES
    "fit": (1.5, 1.0, 1.2, 1.2, 0.8, 0.5, 1.0),
    "looks": (0.2, 0.2, 0.0, 0.5, 0.1, 0.0, 7.0),
}
SPREAD = 0.4  # of a weight, as a share of its mean
SCALE = 0.3
BIAS = 0.25  # towards the left, either way
TIE_MARGIN = 0.4
_ABOUT_LOOKS = ("quality", "pleas", "aesthetic", "beaut")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tastes:
    """n raters: weights of the features (n, 7) by kind of question, scale and bias (n,)."""

    weights: dict[str, Floats]
    scale: Floats
    bias: Floats


def draw_tastes(n: int, rng: np.random.Generator) -> Tastes:
    """n raters from the distribution at the top of this file."""
    weights = {}
    for kind, means in MEANS.items():
        mean = np.array(means)
        weights[kind] = mean + SPREAD * mean * rng.standard_normal((n, len(FEATURES)))
    return Tastes(
        weights=weights,
        scale=np.exp(SCALE * rng.standard_normal(n)),
        bias=BIAS * rng.standard_normal(n),
    )


def kind_of(question: str) -> str:
    """What a question is about: how the picture looks, or else how it fits its text."""
    asked = question.lower()
    return "looks" if any(word in asked for word in _ABOUT_LOOKS) else "fit"


def features(score: Score) -> Floats:
    """FEATURES as numbers. What the text does not ask for, every picture has right."""
    values = (getattr(score, name) for name in FEATURES)
    return np.array([1.0 if value is None else float(value) for value in values])


def chances(tastes: Tastes, kind: str, left: Floats, right: Floats, *, ties: bool) -> Floats:
    """P(left), P(no preference), P(right) of each rater: (n, 3); the rows sum to one."""
    gap = tastes.weights[kind] @ (left - right) / tastes.scale + tastes.bias
    margin = TIE_MARGIN if ties else 0.0
    p_left, p_right = _logistic(gap - margin), _logistic(-gap - margin)
    p_tie = 1.0 - p_left - p_right if ties else np.zeros_like(gap)  # exactly none, not nearly
    return np.stack([p_left, p_tie, p_right], axis=1)


def _logistic(x: Floats) -> Floats:
    y: Floats = 1.0 / (1.0 + np.exp(-x))
    return y

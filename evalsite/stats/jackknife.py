"""How far Bradley-Terry ratings move when raters, prompts or cells are left out, one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from evalsite.stats.clusters import Codes, Floats, Groups
from evalsite.stats.fit import Fit, information_of, scores_of
from evalsite.stats.newton import anchored, inverse_of
from evalsite.stats.tallies import ByCluster, Kinds, by_cluster

HEAVY = 0.02
"""Share of the information from which a cluster's step is solved for exactly, one by one."""

BATCH = 1 << 18
"""Numbers held per array while clusters are gone through in batches."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A jackknife covariance of the parameters, and what it cannot speak of.

    covariance : (G - 1)/G times the sum of d d' over the G clusters, shape (D, D).
    lost : directions in the parameters, shape (L, D), about which the votes say nothing once
        some one cluster is left out: a contrast that is not orthogonal to all of them has
        no jackknife variance.
    """

    covariance: Floats
    lost: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A fit, and what one vote of each kind adds to its score and its information."""

    size: int  # systems
    side: bool
    information: Floats
    inverse: Floats
    first: Codes  # these four per kind
    second: Codes
    residuals: Floats
    weights: Floats

    @property
    def width(self) -> int:
        """How many parameters there are: D."""
        return self.size + self.side


def model_of(fit: Fit, kinds: Kinds, counts: Floats) -> Model:
    """The model at its fit; counts per kind, any shape."""
    side = fit.side is not None
    ratings, first, second = fit.ratings, kinds.first, kinds.second
    expected = expit(ratings[first] - ratings[second] + (fit.side or 0.0))
    weights = expected * (1 - expected)
    size = ratings.size
    by_pair = (counts.ravel() * weights).reshape(size, size, 3).sum(axis=2)
    information = information_of(by_pair, side=side)
    inverse = inverse_of(information, size)
    return Model(
        size, side, information, inverse, first, second, kinds.outcomes - expected, weights
    )


def cluster_steps(
    model: Model, kinds: Kinds, clusters: Groups, others: Groups | None = None
) -> Steps:
    """The one-step delete-one-cluster jackknife of the ratings.

    Leaving out cluster g moves the maximum, to the first step of Newton's method, by

        d_g = -(H - H_g)^-1 u_g        covariance = (G - 1)/G * sum_g d_g d_g'

    with u_g and H_g the cluster's part of the score and of the information H. For two systems
    this is the jackknife of a mean (`jackknife_variance`) divided by (p (1 - p))^2.

    Where a table of clusters and kinds of votes is no larger than the votes themselves, all
    steps are solved for exactly. Otherwise clusters of one vote are added up by kind, in closed
    form; those that hold little of the information are solved for by iteration,
    d <- H^-1 (u + H_g d), many at once; the others, fewer than (K - 1) / HEAVY whatever the
    votes, exactly.

    Parameters
    ----------
    model : the fit.
    kinds : of the votes behind it.
    clusters : of the same votes, at least two.
    others : a second grouping, for the jackknife over the cells of both.

    Returns
    -------
    Steps.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    The one-step jackknife: R. G. Miller, Annals of Statistics 2 (1974) 880-891; by clusters:
    R. M. Bell and D. F. McCaffrey, Survey Methodology 28 (2002) 169-181; J. G. MacKinnon,
    M. O. Nielsen and M. D. Webb, Journal of Econometrics 232 (2023) 272-299 (CV3).
    """
    n_votes = kinds.of_votes.size
    if others is None and clusters.count * kinds.count <= 4 * n_votes + 1024:
        return _steps_of_few(model, kinds, clusters)
    return _steps_of_many(model, by_cluster(kinds, clusters, others))


def vote_steps(model: Model, counts: Floats) -> Steps:
    """`cluster_steps` with every vote a cluster of its own: the votes are independent.

    counts : votes of each kind, any shape.
    """
    total, lost = _lone_steps(model, counts.ravel())
    return Steps((1 - 1 / counts.sum()) * total, lost)


def _steps_of_few(model: Model, kinds: Kinds, clusters: Groups) -> Steps:
    """Clusters so few that a table of all clusters and kinds can be laid out."""
    n, size = clusters.count, model.size
    table = np.bincount(clusters.codes * kinds.count + kinds.of_votes, minlength=n * kinds.count)
    total, lost = _nothing(model)
    expected = -model.residuals.reshape(size, size, 3)[..., 0]
    weights = model.weights.reshape(size, size, 3)[..., 0]
    most = max(1, BATCH // kinds.count)
    for start in range(0, n, most):
        part = table[start * kinds.count : (start + most) * kinds.count].astype(np.float64)
        losses, ties, wins = np.moveaxis(part.reshape(-1, size, size, 3), -1, 0)
        played = losses + ties + wins
        residuals = wins + ties / 2 - played * expected
        steps, also_lost = _exact_steps(model, residuals, played * weights)
        total += steps.T @ steps
        lost = np.concatenate([lost, also_lost])
    return Steps((1 - 1 / n) * total, lost)


def _steps_of_many(model: Model, votes: ByCluster) -> Steps:
    """Clusters up to as many as there are votes."""
    n = votes.sizes.size
    ends = np.cumsum(votes.sizes)
    starts = ends - votes.sizes
    shares = np.add.reduceat(_leverage(model)[votes.kinds], starts)
    lone = votes.sizes == 1
    heavy = ~lone & (shares >= HEAVY)
    counts = np.bincount(votes.kinds[starts[lone]], minlength=model.first.size)
    total, lost = _lone_steps(model, counts.astype(np.float64))
    for part in _batches(votes, starts, ~lone & ~heavy, BATCH // model.width):
        steps = _light_steps(model, *part)
        total += steps.T @ steps
    for part in _batches(votes, starts, heavy, max(1, BATCH // model.width**2)):
        steps, also_lost = _heavy_steps(model, *part)
        total += steps.T @ steps
        lost = np.concatenate([lost, also_lost])
    return Steps((1 - 1 / n) * total, lost)


def _nothing(model: Model) -> tuple[Floats, Floats]:
    return np.zeros((model.width, model.width)), np.empty((0, model.width))


def _leverage(model: Model) -> Floats:
    """Share of the information that one vote of each kind holds: w x' H^-1 x, at most 1."""
    c, i, j = model.inverse, model.first, model.second
    quadratic = c[i, i] + c[j, j] - 2 * c[i, j]
    if model.side:
        quadratic = quadratic + c[-1, -1] + 2 * (c[i, -1] - c[j, -1])
    return np.asarray(model.weights * quadratic)


def _lone_steps(model: Model, counts: Floats) -> tuple[Floats, Floats]:
    """Sum of d d' over single votes, and the directions that hang on one of them.

    (H - w x x')^-1 x = H^-1 x / (1 - w x' H^-1 x), so that votes of a kind share their step.
    """
    rest = 1 - _leverage(model)
    hanging = (rest < 1e-9) & (counts == 1)
    steps = np.where(hanging, 0.0, model.residuals / np.where(rest < 1e-9, 1.0, rest))
    squares = (counts * steps**2).reshape(model.size, model.size, 3).sum(axis=2)
    middle = information_of(squares, side=model.side)
    kinds = np.flatnonzero(hanging)
    directions = np.zeros((kinds.size, model.width))
    rows = np.arange(kinds.size)
    directions[rows, model.first[kinds]], directions[rows, model.second[kinds]] = 1, -1
    if model.side:
        directions[:, -1] = 1
    return model.inverse @ middle @ model.inverse, directions @ model.inverse


def _batches(
    votes: ByCluster, starts: Codes, wanted: NDArray[np.bool_], most: int
) -> Iterator[tuple[Codes, Codes, int]]:
    """The wanted clusters, at most so many at once: row and kind of each vote, and rows."""
    clusters = np.flatnonzero(wanted)
    for begin in range(0, clusters.size, most):
        some = clusters[begin : begin + most]
        sizes = votes.sizes[some]
        rows = np.repeat(np.arange(some.size), sizes)
        # The k-th vote of a cluster stands k places after the cluster's first.
        places = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield rows, votes.kinds[np.repeat(starts[some], sizes) + places], some.size


def _light_steps(model: Model, rows: Codes, kinds: Codes, n_rows: int) -> Floats:
    """d_g of clusters with little information, by iteration: the error shrinks by their share."""
    width = model.width
    one, two = rows * width + model.first[kinds], rows * width + model.second[kinds]
    side = rows * width + model.size
    weights = model.weights[kinds]

    def spread_out(amounts: Floats) -> Floats:
        total = np.bincount(one, amounts, n_rows * width)
        total -= np.bincount(two, amounts, n_rows * width)
        if model.side:
            total += np.bincount(side, amounts, n_rows * width)
        return np.asarray(total.reshape(n_rows, width))

    scores = spread_out(model.residuals[kinds])
    steps = scores @ model.inverse
    while True:
        flat = steps.ravel()
        along = flat[one] - flat[two] + (flat[side] if model.side else 0.0)
        better = (scores + spread_out(weights * along)) @ model.inverse
        change = np.abs(better - steps).max()
        steps = better
        if change <= 1e-7 * np.abs(steps).max():
            return steps


def _heavy_steps(model: Model, rows: Codes, kinds: Codes, n_rows: int) -> tuple[Floats, Floats]:
    """d_g of clusters with much of the information."""
    shape = (n_rows, model.size, model.size)
    keys = (rows * model.size + model.first[kinds]) * model.size + model.second[kinds]
    length = n_rows * model.size**2
    residuals = np.bincount(keys, model.residuals[kinds], length).astype(np.float64, copy=False)
    weights = np.bincount(keys, model.weights[kinds], length).astype(np.float64, copy=False)
    return _exact_steps(model, residuals.reshape(shape), weights.reshape(shape))


def _exact_steps(model: Model, residuals: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """d_g from the sums (G, K, K) of residuals and weights; directions lost without a cluster."""
    scores = scores_of(residuals, side=model.side)
    own = information_of(weights, side=model.side)
    rest = anchored(model.information - own, model.size)
    # Only a cluster that holds a whole parameter's information can leave nothing of one.
    whole = np.einsum("ij,gji->g", model.inverse, own) > 1 - 1e-6
    steps = np.empty(scores.shape)
    steps[~whole] = np.linalg.solve(rest[~whole], scores[~whole, :, None])[..., 0]
    values, vectors = np.linalg.eigh(rest[whole])
    gone = values < 1e-9 * np.abs(model.information).max()
    inverse = np.where(gone, 0.0, 1 / np.where(gone, 1.0, values))
    inside = np.einsum("gkj,gk->gj", vectors, scores[whole])
    steps[whole] = np.einsum("gij,gj->gi", vectors, inverse * inside)
    return steps, np.swapaxes(vectors, -1, -2)[gone]

"""How far raters agree with each other, beyond what chance would give."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.clusters import UNLABELLED, Codes, Floats, Groups, group
from evalsite.stats.intervals import check_confidence
from evalsite.stats.votes import Votes

FEW_UNITS = 30

Metric = Literal["nominal", "ordinal", "interval", "ratio"]

_AT_ONCE = 4_000_000
"""Numbers that the bootstrap holds at a time: 32 MB."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha: 1 for perfect agreement, 0 for what chance gives, below for less.

    What cannot be computed is None, and a warning says why.
    """

    alpha: float | None
    low: float | None  # None where no source of chance was passed
    high: float | None
    metric: Metric
    n_units: int  # with two values or more: the others say nothing about agreement
    n_values: int  # in these units
    n_unlabelled: int  # votes left out since others name their prompt and they do not
    confidence: float
    warnings: tuple[str, ...]


def krippendorff_alpha(
    values: ArrayLike,
    *,
    metric: Metric = "nominal",
    rng: np.random.Generator | int | None = None,
    rounds: int = 1000,
    confidence: float = 0.95,
) -> Agreement:
    """Krippendorff's alpha of values that raters gave to units, any of them missing.

    Of the units with m_u >= 2 values, with c_uk values equal to v_k, n_k = sum_u c_uk and
    n = sum_k n_k:

        D_o = 1/n       sum_u sum_k sum_l c_uk c_ul d_kl / (m_u - 1)      observed disagreement
        D_e = 1/(n(n-1))      sum_k sum_l n_k n_l d_kl                    expected by chance
        alpha = 1 - D_o / D_e

        d_kl   nominal 1 unless k = l      interval (v_k - v_l)^2
               ratio ((v_k - v_l) / (v_k + v_l))^2
               ordinal (r_k - r_l)^2 with mid-ranks r_k = sum_{j<k} n_j + n_k / 2

    The interval is a percentile bootstrap over units: each round draws as many units with
    replacement and computes alpha anew, margins and mid-ranks included. It speaks of these
    raters on other units; rounds in which all values are equal have no alpha and are left out.

    Parameters
    ----------
    values : one row per unit, one column per rater, NaN where a rater gave none; shape
        (units, raters). Which column a value stands in does not matter.
    metric : what the values are; `ratio` takes values >= 0.
    rng : a generator, or the seed of one, for the interval; None for no interval.
    rounds : of the bootstrap, >= 1.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    Agreement. Warnings are fixed words: `no shared units` (none has two values), `no variation`
    (all values equal, so that chance would agree too), `few units` (below 30: the interval is
    too narrow).

    Raises
    ------
    ValueError : not a table, infinite values, an unknown metric, negative values under `ratio`,
        no rounds, confidence outside (0, 1).

    Source
    ------
    K. Krippendorff, Content Analysis (2004), chapter 11. Percentile bootstrap over units:
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"values must be a table of units and raters, not of shape {table.shape}")
    given = ~np.isnan(table)
    if np.isinf(table).any():
        raise ValueError("values must be finite")
    scale, codes = np.unique(table[given], return_inverse=True)
    units = np.nonzero(given)[0]
    counts = _count(units * scale.size + codes, len(table), scale.size)
    return _agreement(counts, scale, metric, rng, rounds, confidence)


def vote_alpha(
    votes: Votes,
    *,
    metric: Metric = "nominal",
    rng: np.random.Generator | int | None = None,
    rounds: int = 1000,
    confidence: float = 0.95,
) -> Agreement:
    """Krippendorff's alpha of the votes of one criterion.

    A unit is a prompt and a pair of systems; its values are the outcomes for the pair's
    lower-numbered system: won, lost, tied. They are taken as three names (`nominal`), so that
    a tie against a win disagrees as much as a loss does; `interval` takes it for half of that.
    Votes of one rater on one unit count once: as what most of them say, as a tie where neither
    system has more. Votes that name no rater are taken for one rater each. Where no vote names
    its prompt, a rater's votes on a pair may be about different prompts and all count, as long
    as others voted on the pair too.

    Two votes without a prompt's label may be about different prompts. Where other votes have
    one they are left out, and counted; where no vote has one the unit is the pair, which makes
    alpha lower than on prompts as far as prompts differ, with a warning.

    Raters can only agree where the systems differ: near-tied pairs make alpha low. It is no
    mark for the raters.

    Parameters
    ----------
    votes : of one criterion. Renumbering the systems turns some pairs round and so may move
        alpha a little: chance agreement is reckoned over all pairs as they are oriented.
    metric, rng, rounds, confidence : as for `krippendorff_alpha`.

    Returns
    -------
    Agreement. Warnings beside those of `krippendorff_alpha`: `no prompt labels` (the unit is the
    pair), `some prompts unknown` (votes were left out).

    Raises
    ------
    ValueError : as `krippendorff_alpha`.

    Source
    ------
    As `krippendorff_alpha`.
    """
    units = shared_units(votes)
    won = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)
    kept = _between_raters(votes, units, won)
    keys = (2 * won[kept]).astype(np.intp)
    keys += 3 * units.codes[kept]
    counts = _count(keys, units.count, 3)
    found = _agreement(counts, np.array([0, 0.5, 1]), metric, rng, rounds, confidence)
    n_unlabelled = int(np.count_nonzero(votes.prompts == UNLABELLED))
    if n_unlabelled == 0:
        return found
    if n_unlabelled == votes.n:
        return replace(found, warnings=("no prompt labels", *found.warnings))
    return replace(
        found, n_unlabelled=n_unlabelled, warnings=("some prompts unknown", *found.warnings)
    )


def shared_units(votes: Votes) -> Groups:
    """The votes that are about the same: one prompt, one pair in either order.

    Without prompt labels the pair alone. Where only some votes have one, each of the others is a
    unit by itself: nobody knows what else is about the same.
    """
    if votes.outcomes.size == 0:
        return Groups(np.empty(0, dtype=np.intp), np.empty(0))
    keys = np.minimum(votes.first, votes.second) * votes.n_systems
    keys += np.maximum(votes.first, votes.second)
    keys *= int(votes.prompts.max()) + 2  # one more for the prompt that has no label
    keys += votes.prompts
    unlabelled = votes.prompts == UNLABELLED
    if unlabelled.any() and not unlabelled.all():
        keys[unlabelled] = int(keys.max()) + 1 + np.arange(np.count_nonzero(unlabelled))
    return group(keys)


def _between_raters(votes: Votes, units: Groups, won: Floats) -> slice | Codes:
    """The rows that say something of agreement between raters; all where nobody voted twice.

    Of a rater's votes on one unit the first row is kept, and its place in `won` changed to what
    most of them say. Where no vote has a prompt: the rows of units that several raters voted on.
    """
    if votes.n == 0 or int(votes.raters.max()) == UNLABELLED:
        return slice(None)
    cells = units.codes * (int(votes.raters.max()) + 1) + votes.raters
    # A vote that names no rater is a cell by itself.
    cells[votes.raters == UNLABELLED] = -1 - np.arange(np.count_nonzero(votes.raters == UNLABELLED))
    ordered = np.sort(cells)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if twice.size == 0:
        return slice(None)
    if int(votes.prompts.max()) == UNLABELLED:
        _, rows = np.unique(cells, return_index=True)
        n_raters = np.bincount(units.codes[rows], minlength=units.count)
        return np.flatnonzero(n_raters[units.codes] > 1)
    again = _rows_with(cells, twice)
    _, first, cell = np.unique(cells[again], return_index=True, return_inverse=True)
    more = np.bincount(cell, weights=2 * won[again] - 1)  # wins less losses
    won[again[first]] = (np.sign(more) + 1) / 2
    return np.delete(np.arange(votes.n), np.delete(again, first))


def _rows_with(keys: Codes, some: Codes) -> Codes:
    """The rows whose key is one of some. Looked up are only those that share the last 20 bits with
    one of them: of ten million rows that is a tenth of the time."""
    bits = (1 << 20) - 1
    likely = np.zeros(bits + 1, dtype=bool)
    likely[some & bits] = True
    rows = np.flatnonzero(likely[keys & bits])
    return rows[np.isin(keys[rows], some)]


def _count(keys: np.ndarray, n_units: int, n_values: int) -> Floats:
    """How often each unit has each value, shape (units, values)."""
    counts = np.bincount(keys, minlength=n_units * n_values)
    return counts.reshape(n_units, n_values).astype(np.float64)


def _kinds(counts: Floats) -> tuple[Floats, Codes]:
    """The different rows of counts in ascending order, and how often each stands there.

    `np.unique` of the rows, by counting: a report may have millions of units.
    """
    if len(counts) == 0:
        return counts, np.empty(0, dtype=np.intp)
    first, *others = counts.T.astype(np.intp)
    rows = group(first)
    for column in others:
        rows = group(rows.codes * (int(column.max()) + 1) + column)
    kinds = np.empty((rows.count, counts.shape[1]))
    kinds[rows.codes] = counts
    return kinds, rows.sizes.astype(np.intp)


def _agreement(
    counts: Floats,
    scale: Floats,
    metric: Metric,
    rng: np.random.Generator | int | None,
    rounds: int,
    confidence: float,
) -> Agreement:
    _check(scale, metric, rounds, confidence)
    counts = counts[counts.sum(axis=1) >= 2]
    # Units with the same counts say the same: a round draws how many of each kind there are.
    kinds, n_kind = _kinds(counts)
    alpha = _alphas(n_kind[None, :].astype(np.float64), kinds, scale, metric)
    defined = len(counts) > 0 and bool(np.isfinite(alpha[0]))
    low = high = None
    if defined and rng is not None:
        drawn = _resampled(np.random.default_rng(rng), rounds, n_kind, kinds, scale, metric)
        tail = (1 - confidence) / 2
        low, high = (float(limit) for limit in np.nanquantile(drawn, (tail, 1 - tail)))
    return Agreement(
        alpha=float(alpha[0]) if defined else None,
        low=low,
        high=high,
        metric=metric,
        n_units=len(counts),
        n_values=int(counts.sum()),
        n_unlabelled=0,
        confidence=confidence,
        warnings=_warnings(len(counts), defined),
    )


def _check(scale: Floats, metric: Metric, rounds: int, confidence: float) -> None:
    check_confidence(confidence)
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, not {metric!r}")
    if metric == "ratio" and (scale < 0).any():
        raise ValueError("a ratio scale has no negative values")
    if rounds < 1:
        raise ValueError(f"a bootstrap needs a round or more, not {rounds}")


def _warnings(n_units: int, defined: bool) -> tuple[str, ...]:
    if n_units == 0:
        return ("no shared units",)
    few = ("few units",) if n_units < FEW_UNITS else ()
    return few if defined else (*few, "no variation")


def _resampled(
    rng: np.random.Generator,
    rounds: int,
    n_kind: np.ndarray,
    kinds: Floats,
    scale: Floats,
    metric: Metric,
) -> Floats:
    """Alpha of each round, NaN where all its values are equal."""
    n_units = int(n_kind.sum())
    step = max(1, _AT_ONCE // max(len(kinds), scale.size))
    parts = []
    for start in range(0, rounds, step):
        drawn = rng.multinomial(n_units, n_kind / n_units, size=min(step, rounds - start))
        parts.append(_alphas(drawn.astype(np.float64), kinds, scale, metric))
    return np.concatenate(parts)


def _alphas(weights: Floats, kinds: Floats, scale: Floats, metric: Metric) -> Floats:
    """Alpha for each row of weights: how many units there are of each kind.

    weights (rounds, kinds), kinds (kinds, values); NaN where chance would not disagree.
    """
    margins = weights @ kinds
    total = margins.sum(axis=1)
    pairable = kinds.sum(axis=1) - 1
    if metric == "ordinal":
        # Mid-ranks move with every round's margins; as shares of n they keep their digits.
        ranks = (np.cumsum(margins, axis=1) - margins / 2) / total[:, None] - 0.5
        within = (pairable + 1) * (ranks**2 @ kinds.T) - (ranks @ kinds.T) ** 2
        observed = (weights * within / pairable).sum(axis=1)
        expected = total * (ranks**2 * margins).sum(axis=1) - (ranks * margins).sum(axis=1) ** 2
    else:
        distances = _distances(scale, metric)
        observed = weights @ (((kinds @ distances) * kinds).sum(axis=1) / pairable)
        expected = ((margins @ distances) * margins).sum(axis=1)
    varied = (margins > 0).sum(axis=1) > 1
    alphas = np.full(len(total), np.nan)
    alphas[varied] = 1 - (total - 1)[varied] * observed[varied] / expected[varied]
    return alphas


def _distances(scale: Floats, metric: Metric) -> Floats:
    """d_kl of the metrics that do not depend on the margins."""
    if metric == "nominal":
        return 1 - np.eye(scale.size)
    apart = scale[:, None] - scale[None, :]
    if metric == "ratio":
        sums = scale[:, None] + scale[None, :]
        apart = np.divide(apart, sums, out=np.zeros_like(apart), where=sums > 0)
    return apart**2

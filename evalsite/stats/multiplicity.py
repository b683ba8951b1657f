"""Many questions asked of one table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.clusters import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values: the chance of any false claim stays below the level.

    With p_(1) <= ... <= p_(m) the sorted values:

        adjusted p_(k) = max over j <= k of min(1, (m - j + 1) p_(j))

    A claim stands at family-wise level a where its adjusted p-value is at most a, whatever
    the dependence between the tests.

    Parameters
    ----------
    p_values : one per claim of the table, each in [0, 1], shape (m,); m may be 0.

    Returns
    -------
    The adjusted p-values in the order given, each in [0, 1].

    Raises
    ------
    ValueError : a value outside [0, 1] or NaN, or not a flat list.

    Source
    ------
    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values must be a flat list of numbers between 0 and 1")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    steps = np.arange(values.size, 0, -1) * values[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def holm_where_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment; a row without votes (None) counts as a test that failed."""
    adjusted = holm([1.0 if p is None else p for p in p_values]).tolist()
    return [None if p is None else value for p, value in zip(p_values, adjusted, strict=True)]

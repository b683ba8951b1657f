"""The arithmetic: plain arrays in, frozen results out. No Django, no input or output.

Every formula stands in FORMULAS.md, with its symbols and its source.
"""

from evalsite.stats.intervals import (
    Interval,
    clopper_pearson_interval,
    jeffreys_interval,
    wilson_interval,
)
from evalsite.stats.pairs import pair_win_rates
from evalsite.stats.win_rate import Ties, WinRate, clustered_interval

__all__ = [
    "Interval",
    "Ties",
    "WinRate",
    "clopper_pearson_interval",
    "clustered_interval",
    "jeffreys_interval",
    "pair_win_rates",
    "wilson_interval",
]

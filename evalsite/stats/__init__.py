"""The arithmetic: plain arrays in, frozen results out. No Django, no input or output.

Every formula stands in FORMULAS.md, with its symbols and its source.
"""

from evalsite.stats.intervals import (
    Interval,
    clopper_pearson_interval,
    jeffreys_interval,
    wilson_interval,
)
from evalsite.stats.pairs import pair_win_rates, win_rates
from evalsite.stats.votes import Votes, check_votes
from evalsite.stats.win_rate import Options, Ties, WinRate, clustered_interval

__all__ = [
    "Interval",
    "Options",
    "Ties",
    "Votes",
    "WinRate",
    "check_votes",
    "clopper_pearson_interval",
    "clustered_interval",
    "jeffreys_interval",
    "pair_win_rates",
    "wilson_interval",
    "win_rates",
]

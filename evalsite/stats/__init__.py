"""The arithmetic: plain arrays in, frozen results out. No Django, no input or output.

Every formula stands in FORMULAS.md, with its symbols and its source.
"""

from evalsite.stats.agreement import Agreement, krippendorff_alpha, vote_alpha
from evalsite.stats.bradley_terry import (
    BradleyTerry,
    Difference,
    Rating,
    SideEffect,
    bootstrap_ratings,
    bradley_terry,
)
from evalsite.stats.claims import Claim, MarginClaim, equivalence, non_inferiority, superiority
from evalsite.stats.davidson import Davidson, davidson
from evalsite.stats.declared import ConfidenceTooSmall, Declared, Look, Verdict, judge
from evalsite.stats.design import (
    PROVED_PROMPTS,
    PROVED_RATERS,
    Correlations,
    Design,
    design_effect,
)
from evalsite.stats.elo import AddElo, elo_as_in_add
from evalsite.stats.fit import Fit, fit_bradley_terry
from evalsite.stats.fragility import Fragility, fragility
from evalsite.stats.intervals import (
    Interval,
    clopper_pearson_interval,
    jeffreys_interval,
    wilson_interval,
)
from evalsite.stats.multiplicity import holm
from evalsite.stats.newton import NotConverged
from evalsite.stats.overall import OverallScore, overall_scores
from evalsite.stats.pairs import pair_win_rates, turned, votes_by_pair, win_rates
from evalsite.stats.pilot import IntraclassCorrelations, intraclass_correlations
from evalsite.stats.planning import Precision, power, precision
from evalsite.stats.raters import (
    Checks,
    RaterDiagnostics,
    RaterProfile,
    RaterRules,
    Repeats,
    SelfConsistency,
    rater_diagnostics,
)
from evalsite.stats.reliability import rater_reliability
from evalsite.stats.sequential import (
    LookInterval,
    anytime_interval,
    crossing_probabilities,
    look_interval,
    p_any_time,
    p_over_looks,
    spending_boundaries,
)
from evalsite.stats.side import PositionEffect, position_effect
from evalsite.stats.sizing import (
    HalfWidth,
    OutOfReach,
    Power,
    fewest,
    rater_floor,
    smallest_difference,
)
from evalsite.stats.slices import (
    Heterogeneity,
    PromptInfluence,
    SliceWinRate,
    Slicing,
    prompt_influence,
    slice_win_rates,
)
from evalsite.stats.votes import Votes, check_votes
from evalsite.stats.win_rate import Options, Ties, WinRate, clustered_interval

__all__ = [
    "PROVED_PROMPTS",
    "PROVED_RATERS",
    "AddElo",
    "Agreement",
    "BradleyTerry",
    "Checks",
    "Claim",
    "ConfidenceTooSmall",
    "Correlations",
    "Davidson",
    "Declared",
    "Design",
    "Difference",
    "Fit",
    "Fragility",
    "HalfWidth",
    "Heterogeneity",
    "Interval",
    "IntraclassCorrelations",
    "Look",
    "LookInterval",
    "MarginClaim",
    "NotConverged",
    "Options",
    "OutOfReach",
    "OverallScore",
    "PositionEffect",
    "Power",
    "Precision",
    "PromptInfluence",
    "RaterDiagnostics",
    "RaterProfile",
    "RaterRules",
    "Rating",
    "Repeats",
    "SelfConsistency",
    "SideEffect",
    "SliceWinRate",
    "Slicing",
    "Ties",
    "Verdict",
    "Votes",
    "WinRate",
    "anytime_interval",
    "bootstrap_ratings",
    "bradley_terry",
    "check_votes",
    "clopper_pearson_interval",
    "clustered_interval",
    "crossing_probabilities",
    "davidson",
    "design_effect",
    "elo_as_in_add",
    "equivalence",
    "fewest",
    "fit_bradley_terry",
    "fragility",
    "holm",
    "intraclass_correlations",
    "jeffreys_interval",
    "judge",
    "krippendorff_alpha",
    "look_interval",
    "non_inferiority",
    "overall_scores",
    "p_any_time",
    "p_over_looks",
    "pair_win_rates",
    "position_effect",
    "power",
    "precision",
    "prompt_influence",
    "rater_diagnostics",
    "rater_floor",
    "rater_reliability",
    "slice_win_rates",
    "smallest_difference",
    "spending_boundaries",
    "superiority",
    "turned",
    "vote_alpha",
    "votes_by_pair",
    "wilson_interval",
    "win_rates",
]

"""Real votes, and what other programs made of them.

The environment variable EVALSITE_REFERENCE_DATA names a folder with

    votes/NAME.csv                   rater_id, prompt_id, criterion, model_a, model_b, winner
    reference/NAME_pairs.csv         Wilson, Clopper-Pearson and Jeffreys per pair, from R
    reference/NAME_recommended.csv   the default interval per pair, from research code
    reference/NAME_bt.csv            Bradley-Terry from R's BradleyTerry2, standard errors from
                                     its information and from sandwich, by rater, by prompt, both
    reference/NAME_evalica.csv       Davidson's model, Elo and average win rates by evalica 0.4.2

for NAME in llmfao (dustalov/llmfao, CC BY 4.0) and tmo (mantiuk/pwcmp examples, MIT). The
data are not part of this project; without them these tests are skipped.
"""

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2
from scipy.stats import t as student

from evalsite.stats import (
    bradley_terry,
    check_votes,
    clopper_pearson_interval,
    clustered_interval,
    davidson,
    elo_as_in_add,
    fit_bradley_terry,
    jeffreys_interval,
    overall_scores,
    pair_win_rates,
    position_effect,
    rater_diagnostics,
    vote_alpha,
    votes_by_pair,
    wilson_interval,
)
from evalsite.stats.clusters import cross, group
from evalsite.stats.intervals import score_limits

DATA = os.environ.get("EVALSITE_REFERENCE_DATA")
if not DATA:
    pytest.skip("EVALSITE_REFERENCE_DATA names no reference folder", allow_module_level=True)

NAMES = ["tmo", "llmfao"]
OUTCOMES = {"a": 1.0, "tie": 0.5, "b": 0.0}


@cache
def read(part):
    with (Path(DATA) / part).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def votes(name):
    """The columns of `pair_win_rates`, and the systems' numbers: alphabetical."""
    rows = read(f"votes/{name}.csv")
    systems = sorted({row[side] for row in rows for side in ("model_a", "model_b")})
    numbers = {system: number for number, system in enumerate(systems)}
    columns = {
        "first": np.array([numbers[row["model_a"]] for row in rows]),
        "second": np.array([numbers[row["model_b"]] for row in rows]),
        "outcomes": np.array([OUTCOMES[row["winner"]] for row in rows]),
        "raters": [row["rater_id"] for row in rows],
        "prompts": [row["prompt_id"] for row in rows],
    }
    return columns, numbers


@cache
def results(name, fixed_prompts):
    columns, _ = votes(name)
    return pair_win_rates(**columns, fixed_prompts=fixed_prompts)


def numbered(name, row):
    _, numbers = votes(name)
    return numbers[row["i"]], numbers[row["j"]]


# The research code's floor of a variance was a tenth of independent votes; ours is higher here.
FLOORED = {("tmo", "2way"): {("hateren06", "mantiuk08")}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "fixed_prompts"), [("2way", False), ("rater", True)])
def test_every_recommended_interval_is_reproduced(name, kind, fixed_prompts):
    rows = read(f"reference/{name}_recommended.csv")
    assert len(rows) == {"tmo": 21, "llmfao": 57}[name]
    for row in rows:
        found = results(name, fixed_prompts)[numbered(name, row)]
        assert found.n == int(row["n"])
        assert found.win_rate == pytest.approx(float(row["est"]), abs=1e-6)
        assert found.df == pytest.approx(float(row[f"{kind}_df"]), rel=1e-6)
        if (row["i"], row["j"]) in FLOORED.get((name, kind), ()):
            continue
        assert found.low == pytest.approx(float(row[f"{kind}_lo"]), abs=1e-6)
        assert found.high == pytest.approx(float(row[f"{kind}_hi"]), abs=1e-6)
        assert found.se == pytest.approx(float(row[f"{kind}_se"]), rel=0.005)
        for field, column in (("n_eff", "neff"), ("design_effect", "deff")):
            assert getattr(found, field) == pytest.approx(float(row[f"{kind}_{column}"]), rel=1e-6)


def test_the_one_recommended_interval_at_a_floor_is_wider_here():
    (pair,) = FLOORED["tmo", "2way"]
    (row,) = (r for r in read("reference/tmo_recommended.csv") if (r["i"], r["j"]) == pair)
    found = results("tmo", False)[numbered("tmo", row)]
    assert float(row["2way_deff"]) == pytest.approx(0.1)
    # The reference's own n_eff at this floor, in Wilson's limits: nothing else has changed.
    floor = chi2.ppf(0.04, found.df) / found.df
    assert found.design_effect == pytest.approx(floor)
    limits = score_limits(
        found.win_rate, float(row["2way_neff"]) * 0.1 / floor, student.ppf(0.975, found.df)
    )
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=1e-6)
    assert found.low < float(row["2way_lo"]) < float(row["2way_hi"]) < found.high


def test_the_pairs_without_a_recommended_interval_are_those_whose_order_depends_on_the_locale():
    # R sorted the 60 pairs of llmfao without regard to case, the research code by code point,
    # where "Weaver 12k" comes before "command": it knew these three pairs the other way round
    # and so found no row to put beside R's. Nothing about their votes is special: turned round,
    # they are computed like all others, and their estimates agree with R's (next test).
    pairs = {(row["i"], row["j"]) for row in read("reference/llmfao_pairs.csv")}
    recommended = {(row["i"], row["j"]) for row in read("reference/llmfao_recommended.csv")}
    assert recommended < pairs
    missing = pairs - recommended
    assert missing == {
        ("command", "Weaver 12k"),
        ("command-light", "Weaver 12k"),
        ("command-nightly", "Weaver 12k"),
    }
    assert missing == {(i, j) for i, j in pairs if i > j}
    for pair in missing:
        first, second = (votes("llmfao")[1][system] for system in pair)
        found = results("llmfao", False)
        assert (first, second) not in found
        assert found[second, first].method == "two-way jackknife"


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_intervals_for_independent_votes_agree_with_r(name):
    columns, _ = votes(name)
    rows = read(f"reference/{name}_pairs.csv")
    found = pair_win_rates(**columns, pairs=[numbered(name, row) for row in rows])
    for row, result in zip(rows, found.values(), strict=False):
        for field in ("n", "wins", "ties", "losses", "n_raters", "n_prompts"):
            assert getattr(result, field) == int(row[field])
        assert result.win_rate == pytest.approx(float(row["win_rate_half"]), abs=1e-6)
        assert result.win_rate_decided == pytest.approx(float(row["win_rate_dropties"]), abs=1e-6)
        wins = result.wins + result.ties / 2
        for interval, column in (
            (wilson_interval, "wilson"),
            (jeffreys_interval, "jeff"),
            (clopper_pearson_interval, "cp"),
        ):
            if row[f"{column}_lo"] == "NA":  # R's exact test takes whole wins only
                assert (column, wins % 1) == ("cp", 0.5)
                continue
            limits = interval(wins, result.n)
            assert limits.low == pytest.approx(float(row[f"{column}_lo"]), abs=1e-6)
            assert limits.high == pytest.approx(float(row[f"{column}_hi"]), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_sums_over_clusters_make_the_standard_errors_of_rs_sandwich(name):
    # As for the ratings below: R's sandwich and the jackknife here add up the same residuals.
    checked = check_votes(**votes(name)[0])
    for row in read(f"reference/{name}_pairs.csv"):
        low, high = sorted(numbered(name, row))
        own = votes_by_pair(checked)[low, high]
        residuals = own.outcomes - own.outcomes.mean()
        raters, prompts = group(own.raters), group(own.prompts)

        def variance(groups, residuals=residuals):
            scale = groups.count / (groups.count - 1)
            return scale * (groups.sums(residuals) ** 2).sum() / residuals.size**2

        one_way = variance(raters), variance(prompts)
        both = sum(one_way) - variance(cross(raters, prompts))
        for column, found in zip(("rater", "prompt", "2way"), (*one_way, both), strict=True):
            if row[f"se_{column}"] != "NA":
                assert np.sqrt(found) == pytest.approx(float(row[f"se_{column}"]), rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_doubling_every_real_vote_moves_no_limit_by_more_than_two_points(name):
    columns, _ = votes(name)
    twice = pair_win_rates(**{key: np.tile(column, 2) for key, column in columns.items()})
    for pair, once in results(name, False).items():
        if once.n >= 30:
            assert twice[pair].low == pytest.approx(once.low, abs=0.02)
            assert twice[pair].high == pytest.approx(once.high, abs=0.02)


def test_a_pair_alone_gets_the_interval_that_it_gets_among_all():
    columns, _ = votes("tmo")
    own = (columns["first"] == 0) & (columns["second"] == 1)
    turned = (columns["first"] == 1) & (columns["second"] == 0)
    outcomes = np.where(turned, 1 - columns["outcomes"], columns["outcomes"])
    kept = np.flatnonzero(own | turned)
    alone = clustered_interval(
        outcomes[kept], *([columns[key][k] for k in kept] for key in ("raters", "prompts"))
    )
    among = results("tmo", False)[0, 1]
    assert (alone.low, alone.high) == pytest.approx((among.low, among.high))


@pytest.mark.parametrize(("name", "alpha"), [("tmo", 0.303155), ("llmfao", 0.290345)])
def test_agreement_is_what_it_is_known_to_be(name, alpha):
    columns, _ = votes(name)
    assert vote_alpha(check_votes(**columns)).alpha == pytest.approx(alpha, abs=1e-6)


def test_ratings_agree_with_r():
    for name in NAMES:
        columns, numbers = votes(name)
        found = bradley_terry(check_votes(**columns))
        for row in read(f"reference/{name}_bt.csv"):
            rating = found.ratings[numbers[row["item"]]].rating
            assert rating == pytest.approx(float(row["bt_mean0"]), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_information_make_the_standard_errors_of_rs_sandwich(name):
    # R's clustered sandwich scales the part of each dimension by G / (G - 1). The default here
    # is a jackknife, but it is made of the same scores and the same information.
    checked = check_votes(**votes(name)[0])
    size = checked.n_systems
    won, played = np.zeros((2, size, size))
    np.add.at(won, (checked.first, checked.second), checked.outcomes)
    np.add.at(played, (checked.first, checked.second), 1)
    fit = fit_bradley_terry(won, played)
    gaps = fit.ratings[checked.first] - fit.ratings[checked.second]
    scores = np.zeros((checked.n, size))
    rows = np.arange(checked.n)
    scores[rows, checked.first] = checked.outcomes - 1 / (1 + np.exp(-gaps))
    scores[rows, checked.second] = -scores[rows, checked.first]

    def meat(codes):
        groups = np.unique(codes, return_inverse=True)[1]
        sums = np.zeros((groups.max() + 1, size))
        np.add.at(sums, groups, scores)
        return len(sums) / (len(sums) - 1) * sums.T @ sums

    rater, prompt = meat(checked.raters), meat(checked.prompts)
    both = rater + prompt - meat(checked.raters * (checked.prompts.max() + 1) + checked.prompts)
    for column, middle in (("rater", rater), ("prompt", prompt), ("2way", both)):
        errors = np.sqrt(np.diag(fit.covariance @ middle @ fit.covariance))
        for row in read(f"reference/{name}_bt.csv"):
            own = errors[votes(name)[1][row["item"]]]
            assert own == pytest.approx(float(row[f"se_cl_{column}_mean0"]), rel=0.005)
    for row in read(f"reference/{name}_bt.csv"):
        model = np.sqrt(fit.covariance[votes(name)[1][row["item"]]][votes(name)[1][row["item"]]])
        assert model == pytest.approx(float(row["se_model_mean0"]), rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_ties_elo_and_scores_agree_with_evalica(name):
    columns, numbers = votes(name)
    checked = check_votes(**columns)
    abilities = davidson(checked).abilities
    scores = elo_as_in_add(checked, np.random.default_rng(1)).scores
    overall = overall_scores(checked)
    for row in read(f"reference/{name}_evalica.csv"):
        system = numbers[row[""]]
        assert overall[system].win_rate == pytest.approx(float(row["avg_win_rate"]), abs=1e-6)
        assert abilities[system] == pytest.approx(float(row["newman_log"]), abs=1e-6)
        assert scores[system] == pytest.approx(float(row["elo_k1_mean200"]), abs=1.5)  # chance


@pytest.mark.parametrize(("name", "logit"), [("tmo", 0.148211), ("llmfao", 0.090880)])
def test_position_effect_is_what_it_is_known_to_be(name, logit):
    # With `a` taken as left, which the files do not promise.
    columns, _ = votes(name)
    found = position_effect(check_votes(**columns), np.ones(len(columns["first"]), dtype=bool))
    assert found.logit == pytest.approx(logit, abs=1e-4)
    assert found.low < 0.1 < found.high


def test_the_crowd_workers_who_stand_out_are_flagged():
    # One of 124 chose a in all of 21 votes; three others, 70% to 75% of the time or in long runs.
    flagged = [profile for profile in rater_profiles("llmfao") if profile.flags]
    assert len(flagged) == 4
    assert [profile.left_share for profile in flagged if profile.n == 21] == [1.0]
    assert not any(p.flags for p in rater_profiles("tmo"))


def rater_profiles(name):
    checked = check_votes(**votes(name)[0])
    return rater_diagnostics(checked, np.ones(checked.n, dtype=bool)).profiles

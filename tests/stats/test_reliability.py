import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from evalsite.stats import NotConverged, check_votes, rater_reliability


def draw_answers(rng, accuracies, *, units=600, per_unit=4):
    """Votes of raters who choose a unit's answer with the chances given."""
    accuracies = np.asarray(accuracies)
    who = np.argsort(rng.random((units, accuracies.size)), axis=1)[:, :per_unit].ravel()
    answers = np.repeat(rng.random(units) < 0.5, per_unit)
    right = rng.random(who.size) < accuracies[who]
    prompts = np.repeat(np.arange(units), per_unit)
    none = np.zeros(who.size, dtype=int)
    return check_votes(none, none + 1, (right == answers).astype(float), who, prompts)


def test_two_raters_who_always_agree_by_hand():
    # Both have the same a, with q = a^2 / (a^2 + (1 - a)^2) and a = (1 + 10 q) / 12, that is
    # (2 a - 1) (12 a^2 - 12 a + 1) = 0: the root above 1/2.
    votes = check_votes([0] * 20, [1] * 20, [1] * 10 + [0] * 10, [0, 1] * 10, np.arange(20) // 2)
    assert rater_reliability(votes) == pytest.approx([1 / 2 + np.sqrt(6) / 6] * 2, abs=1e-5)


def test_it_is_the_maximum_that_another_road_finds():
    # scipy 1.17.1: BFGS on the posterior, units' answers summed out.
    votes = draw_answers(np.random.default_rng(1), [0.9, 0.8, 0.7, 0.6, 0.5], units=80)
    sides = 2 * votes.outcomes - 1

    def minus_log_posterior(logits):
        log_right, log_wrong = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
        first = np.where(sides > 0, log_right[votes.raters], log_wrong[votes.raters])
        second = np.where(sides > 0, log_wrong[votes.raters], log_right[votes.raters])
        both = [np.bincount(votes.prompts, weights=part) for part in (first, second)]
        return -logsumexp(both, axis=0).sum() - (log_right + log_wrong).sum()

    best = minimize(minus_log_posterior, np.ones(5), tol=1e-10)
    assert rater_reliability(votes) == pytest.approx(expit(best.x), abs=1e-4)


def test_reliability_is_recovered():
    accuracies = [0.95, 0.85, 0.75, 0.65, 0.5, 0.8, 0.8, 0.8]
    votes = draw_answers(np.random.default_rng(2), accuracies, units=4000)
    assert rater_reliability(votes) == pytest.approx(accuracies, abs=0.03)


def test_systems_named_the_other_way_round_change_nothing():
    votes = draw_answers(np.random.default_rng(3), [0.9, 0.8, 0.6, 0.7])
    turn = np.arange(votes.n) % 3 == 0
    turned = check_votes(
        np.where(turn, votes.second, votes.first),
        np.where(turn, votes.first, votes.second),
        np.where(turn, 1 - votes.outcomes, votes.outcomes),
        votes.raters,
        votes.prompts,
    )
    assert rater_reliability(turned) == pytest.approx(rater_reliability(votes))


def test_ties_lone_votes_and_unknown_raters_say_nothing():
    votes = draw_answers(np.random.default_rng(4), [0.9, 0.8, 0.7, 0.6], units=60)
    more = check_votes(
        [*votes.first, 0, 0, 0],
        [*votes.second, 1, 1, 1],
        [*votes.outcomes, 0.5, 1, 1],
        [*map(str, votes.raters), "0", "tied", None],
        [*votes.prompts, 0, 99, 0],
    )
    alone = rater_reliability(votes)
    order = [int(label) for label in dict.fromkeys(map(str, votes.raters))]
    assert rater_reliability(more)[:4] == pytest.approx([alone[r] for r in order])
    assert rater_reliability(more)[4:] == (None,)


def test_criteria_have_answers_of_their_own():
    one = draw_answers(np.random.default_rng(5), [0.95] * 4, units=60)
    # A second criterion on the same prompts, answered the other way round.
    both = check_votes(
        np.tile(one.first, 2),
        np.tile(one.second, 2),
        np.concatenate([one.outcomes, 1 - one.outcomes]),
        np.tile(one.raters, 2),
        np.tile(one.prompts, 2),
    )
    apart = rater_reliability(both, criteria=np.repeat(["quality", "prompt"], one.n))
    assert min(apart) > 0.85
    assert max(rater_reliability(both)) < 0.75


def test_no_votes_have_no_raters():
    assert rater_reliability(check_votes([], [], [], [], [])) == ()
    assert rater_reliability(check_votes([0], [1], [1], None, None)) == ()


def test_it_does_not_stop_before_it_has_converged():
    votes = draw_answers(np.random.default_rng(6), [0.9, 0.8, 0.7, 0.6])
    with pytest.raises(NotConverged, match="still move after 3 steps"):
        rater_reliability(votes, limit=3)


def test_criteria_of_another_length_are_refused():
    votes = draw_answers(np.random.default_rng(7), [0.9, 0.8, 0.7, 0.6], units=2)
    with pytest.raises(ValueError, match="1 criterion labels for 8 votes"):
        rater_reliability(votes, criteria=["quality"])

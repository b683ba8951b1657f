"""What an answer does, when it counts, and what is kept as surplus."""

import pytest

from evalsite.voting import queries, services
from evalsite.voting.models import Ballot, Flag, Vote
from tests import world
from tests.world import MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LATER = NOON + services.LEASE + MINUTE


def test_a_vote_closes_its_ballot():
    vote = world.vote()
    ballot = Ballot.objects.get(holder=vote.showing)
    assert ballot.answered_at == NOON
    assert (vote.choice, vote.take, vote.voted_at) == ("LEFT", 1, NOON)


def test_first_answer_stands():
    showing = world.showing()
    world.vote(showing, "LEFT")
    again = world.vote(showing, "RIGHT", at=NOON + MINUTE)
    assert (again.choice, again.voted_at) == ("LEFT", NOON)
    assert Vote.objects.count() == 1


def test_an_answered_ballot_is_given_to_nobody_even_when_its_lease_is_over():
    study = world.open_study(n_prompts=1)
    world.vote(world.showing(world.rater(study)))
    assert services.lease_ballot(rater=world.rater(study), at=LATER) is None


def test_a_late_vote_counts_while_nobody_has_taken_its_ballot():
    vote = world.vote(world.showing(), at=LATER)
    assert list(queries.counted_votes(vote.showing.rater.study)) == [vote]


def test_a_vote_whose_ballot_was_given_on_is_stored_as_surplus():
    study = world.open_study(n_prompts=1)
    lost = world.showing(world.rater(study))
    taken = world.showing(world.rater(study), at=LATER)
    late = world.vote(lost, "LEFT", at=LATER)
    assert not queries.counted_votes(study).exists()
    counted = world.vote(taken, "RIGHT", at=LATER)
    assert list(queries.counted_votes(study)) == [counted]
    assert set(Vote.objects.all()) == {late, counted}


def test_a_tie_is_refused_where_the_criterion_asks_for_a_side():
    showing = world.showing()
    with pytest.raises(services.TieNotAllowed, match="asks for LEFT or RIGHT"):
        world.vote(showing, "TIE")
    assert not Vote.objects.exists()
    assert Ballot.objects.get(holder=showing).answered_at is None


def test_a_tie_is_an_answer_where_the_criterion_allows_it():
    rater = world.rater(world.open_study(tie_policy="ALLOWED"))
    assert world.vote(world.showing(rater), "TIE").choice == "TIE"


@pytest.mark.parametrize("choice", ["", "left", "BOTH"])
def test_an_answer_that_nobody_offered_is_refused(choice):
    with pytest.raises(services.ChoiceNotOffered, match="expected LEFT, RIGHT or TIE"):
        world.vote(world.showing(), choice)
    assert not Vote.objects.exists()


@pytest.mark.parametrize(("said", "stored"), [(-5, 0), (2**40, 2**31 - 1)])
def test_a_vote_is_not_lost_over_a_timer_that_cannot_be(said, stored):
    vote = services.cast_vote(
        showing=world.showing(), take=1, choice="LEFT", response_ms=said, at=NOON
    )
    assert Vote.objects.get(pk=vote.pk).response_ms == stored


def test_the_last_vote_can_be_taken_back_once():
    rater = world.rater(world.open_study())
    showing = world.showing(rater)
    world.vote(showing, "LEFT")
    world.showing(rater)  # the next pair is already in front
    second = world.vote(showing, "RIGHT", take=2)
    assert list(queries.counted_votes(rater.study)) == [second]
    assert world.vote(showing, "LEFT", take=2) == second
    with pytest.raises(services.CannotTakeBack, match="expected 1 or 2"):
        world.vote(showing, "LEFT", take=3)


def test_an_earlier_vote_cannot_be_taken_back():
    rater = world.rater(world.open_study())
    earlier = world.vote(world.showing(rater)).showing
    world.vote(world.showing(rater))
    with pytest.raises(services.CannotTakeBack, match="only the last vote"):
        world.vote(earlier, "RIGHT", take=2)


def test_a_second_take_needs_a_first():
    with pytest.raises(services.CannotTakeBack, match="only the last vote"):
        world.vote(world.showing(), take=2)


def test_a_vote_that_does_not_count_cannot_be_taken_back():
    study = world.open_study(n_prompts=1)
    lost = world.showing(world.rater(study))
    world.showing(world.rater(study), at=LATER)
    world.vote(lost, at=LATER)
    with pytest.raises(services.CannotTakeBack, match="no longer counts"):
        world.vote(lost, "RIGHT", take=2, at=LATER)


def test_nothing_is_taken_back_after_closing():
    vote = world.vote()
    services.close_study(study=vote.showing.rater.study, at=LATER)
    with pytest.raises(services.CannotTakeBack, match="closed"):
        world.vote(vote.showing, "RIGHT", take=2, at=LATER)


def test_a_pause_takes_the_answers_to_pairs_already_on_a_screen():
    showing = world.showing()
    study = showing.rater.study
    services.pause_study(study=study, at=NOON)
    vote = world.vote(showing)
    assert list(queries.counted_votes(study)) == [vote]


# Cannot judge


def test_a_flag_frees_the_ballot_for_another_rater():
    study = world.open_study(n_prompts=1)
    showing = world.showing(world.rater(study))
    services.flag_showing(showing=showing, reason="MISSING", at=NOON)
    assert services.lease_ballot(rater=showing.rater, at=NOON) is None
    assert world.showing(world.rater(study)).comparison == showing.comparison


def test_a_repeated_flag_is_the_stored_one():
    showing = world.showing()
    first = services.flag_showing(showing=showing, reason="MISSING", at=NOON)
    assert services.flag_showing(showing=showing, reason="OTHER", at=LATER) == first
    assert Flag.objects.get().reason == "MISSING"


def test_two_raters_who_cannot_judge_a_comparison_take_it_out():
    study = world.open_study(n_prompts=1, votes_per_comparison=3)
    counted = world.vote(world.showing(world.rater(study)))
    assert list(queries.counted_votes(study)) == [counted]
    for reason in ("OFFENSIVE", "MISSING"):
        showing = world.showing(world.rater(study))
        services.flag_showing(showing=showing, reason=reason, at=LATER)
    comparison = showing.comparison
    comparison.refresh_from_db()
    assert comparison.removed_at == LATER
    assert comparison.removed_reason == "raters could not judge it: OFFENSIVE, MISSING"
    assert services.lease_ballot(rater=world.rater(study), at=LATER) is None
    assert not queries.counted_votes(study).exists()


def test_a_pair_that_was_taken_out_does_not_strand_who_has_it_in_front():
    study = world.open_study(n_prompts=2, votes_per_comparison=3)
    third = world.rater(study)
    in_front = world.showing(third)
    for _ in range(2):
        pairs = services.upcoming(rater=world.rater(study), at=NOON)
        (same,) = [pair for pair in pairs if pair.comparison == in_front.comparison]
        services.flag_showing(showing=same, reason="OTHER", at=NOON)
    assert world.showing(third).comparison != in_front.comparison
    world.vote(in_front)
    assert not queries.counted_votes(study).exists()


def test_the_flags_of_an_excluded_rater_take_nothing_out():
    study = world.open_study(n_prompts=1, votes_per_comparison=3)
    for n in range(2):
        showing = world.showing(world.rater(study))
        services.flag_showing(showing=showing, reason="OTHER", at=NOON)
        if n == 0:
            services.exclude_rater(rater=showing.rater, reason="flags everything", at=NOON)
    showing.comparison.refresh_from_db()
    assert showing.comparison.removed_at is None


def test_a_flag_after_closing_changes_nothing_that_was_counted():
    study = world.open_study(n_prompts=1, votes_per_comparison=3)
    counted = world.vote(world.showing(world.rater(study)))
    pairs = [world.showing(world.rater(study)) for _ in range(2)]
    services.close_study(study=study, at=NOON)
    for pair in pairs:
        services.flag_showing(showing=pair, reason="OTHER", at=LATER)
    assert list(queries.counted_votes(study)) == [counted]


def test_the_last_answer_can_be_taken_back_by_a_flag_and_no_earlier_one():
    study = world.open_study(n_prompts=2)
    rater = world.rater(study)
    first, last = (world.vote(world.showing(rater)) for _ in range(2))
    with pytest.raises(services.AlreadyAnswered):
        services.flag_showing(showing=first.showing, reason="OTHER", at=NOON)
    services.flag_showing(showing=last.showing, reason="OTHER", at=NOON)
    assert list(queries.counted_votes(study)) == [first]
    assert world.showing(world.rater(study)).comparison == last.showing.comparison
    services.close_study(study=study, at=NOON)
    with pytest.raises(services.AlreadyAnswered):
        services.flag_showing(showing=first.showing, reason="OTHER", at=NOON)


def test_a_flag_needs_a_known_reason():
    with pytest.raises(ValueError, match="expected one of MISSING, OFFENSIVE, OTHER"):
        services.flag_showing(showing=world.showing(), reason="UGLY", at=NOON)
    assert not Flag.objects.exists()


# Exclusion and closing


@pytest.mark.parametrize("leave", ["exclude", "withdraw"])
def test_leaving_while_the_study_runs_frees_the_ballots_for_others(leave):
    study = world.open_study(n_prompts=2)
    gone = world.rater(study)
    surplus = world.vote(world.showing(gone))
    open_pair = world.showing(gone)
    sides = dict(Ballot.objects.values_list("pk", "first_on_left"))
    _leave(gone, leave)
    assert not Ballot.objects.exclude(holder=None, answered_at=None, lease_expires_at=None).exists()
    assert dict(Ballot.objects.values_list("pk", "first_on_left")) == sides
    assert world.vote(open_pair, at=LATER).pk  # stored, and paid, but surplus
    others = world.vote_to_the_end(world.rater(study))
    assert len(others) == 2
    assert set(queries.counted_votes(study)) == set(others)
    assert surplus in Vote.objects.all()


@pytest.mark.parametrize("leave", ["exclude", "withdraw"])
def test_leaving_after_closing_only_marks(leave):
    vote = world.vote()
    study, rater = vote.showing.rater.study, vote.showing.rater
    services.close_study(study=study, at=LATER)
    _leave(rater, leave)
    assert Ballot.objects.filter(holder=vote.showing, answered_at=NOON).exists()
    assert not queries.counted_votes(study).exists()
    assert list(queries.counted_votes(study, with_excluded=True)) == [vote]


def test_an_exclusion_has_a_reason_and_the_first_one_stands():
    rater = world.rater()
    with pytest.raises(ValueError, match="expected why"):
        services.exclude_rater(rater=rater, reason="  ", at=NOON)
    services.exclude_rater(rater=rater, reason="too fast", at=NOON)
    again = services.exclude_rater(rater=rater, reason="one-sided", at=LATER)
    assert (again.excluded_reason, again.excluded_at) == ("too fast", NOON)


def test_closing_frees_what_is_unanswered_and_later_votes_are_surplus():
    study = world.open_study(n_prompts=2)
    rater = world.rater(study)
    counted = world.vote(world.showing(rater))
    pending = world.showing(rater)
    services.close_study(study=study, at=LATER)
    assert (study.state, study.closed_at) == ("CLOSED", LATER)
    world.vote(pending, at=NOON)  # even with a clock that is behind
    assert list(queries.counted_votes(study)) == [counted]
    assert Ballot.objects.filter(holder=None).count() == 1
    assert Vote.objects.count() == 2


def test_a_closed_study_takes_nobody_in_and_gives_nothing_out():
    study = world.open_study()
    rater = world.rater(study)
    services.close_study(study=study, at=LATER)
    for act in (
        lambda: world.rater(study),
        lambda: services.lease_ballot(rater=rater, at=LATER),
        lambda: services.open_study(study=study, at=LATER),
        lambda: services.pause_study(study=study, at=LATER),
        lambda: services.close_study(study=study, at=LATER),
    ):
        with pytest.raises(services.StudyNotOpen, match="is closed"):
            act()


# Raters, counts


def test_the_same_outside_id_is_the_same_rater():
    study = world.open_study()
    first = world.rater(study, outside_hash="ab12")
    assert world.rater(study, outside_hash="ab12") == first
    assert world.rater(study) != world.rater(study)


def test_the_raters_of_a_simulated_study_are_recorded_as_simulated():
    assert world.rater(world.open_study(simulated=True)).recruiter == "SIMULATED"
    assert world.rater(world.open_study()).recruiter == "LINK"


def test_progress_counts_answers_towards_the_cap_or_all_pairs_there_are():
    capped = world.rater(world.open_study(n_prompts=4, criteria=("a", "b"), votes_per_rater=5))
    free = world.rater(world.open_study(n_prompts=4, criteria=("a", "b")))
    world.vote(world.showing(capped))
    assert queries.progress_of(capped) == queries.Progress(done=1, total=5)
    assert queries.progress_of(free) == queries.Progress(done=0, total=8)


def test_counts_of_a_running_study(django_assert_num_queries):
    study = world.open_study(n_prompts=3)
    rater = world.rater(study)
    world.vote(world.showing(rater))
    services.flag_showing(showing=world.showing(rater), reason="OTHER", at=NOON)
    services.finish_rater(rater=rater, at=NOON)
    with django_assert_num_queries(4):
        counts = queries.study_counts(study)
    assert counts == queries.StudyCounts(
        n_ballots=3, n_answered=1, n_votes=1, n_raters=1, n_finished=1, n_excluded=0, n_flags=1
    )


def test_a_rater_sees_only_what_was_shown_to_them():
    showing = world.showing()
    assert list(queries.showings_of(showing.rater.code)) == [showing]
    assert not queries.showings_of(world.rater().code).exists()
    assert not queries.showings_of(None).exists()


def _leave(rater, leave: str) -> None:
    if leave == "exclude":
        services.exclude_rater(rater=rater, reason="one-sided", at=LATER)
    else:
        services.withdraw_rater(rater=rater, at=LATER)

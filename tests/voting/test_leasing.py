"""Which pair comes before a rater, and what becomes of a pair that nobody answers."""

import pytest

from evalsite.voting import services
from evalsite.voting.models import Ballot, Vote
from tests import world
from tests.world import MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LATER = NOON + services.LEASE + MINUTE


def test_a_rater_gets_a_pair_and_its_ballot_is_held():
    showing = world.showing()
    ballot = Ballot.objects.get(holder=showing)
    assert ballot == showing.ballot
    assert ballot.lease_expires_at == NOON + services.LEASE
    assert ballot.first_on_left == showing.first_on_left


def test_asking_again_gives_the_same_pair_and_renews_its_lease():
    rater = world.rater()
    first = world.showing(rater)
    again = world.showing(rater, at=NOON + MINUTE)
    assert again == first
    assert Ballot.objects.get(holder=first).lease_expires_at == NOON + MINUTE + services.LEASE


def test_the_next_pair_may_be_loaded_while_the_first_is_in_front():
    rater = world.rater()
    first, second = services.upcoming(rater=rater, at=NOON)
    assert first == world.showing(rater)
    world.vote(first)
    assert world.showing(rater) == second


def test_a_rater_never_holds_more_than_two_pairs():
    rater = world.rater(world.open_study(n_prompts=5))
    for _ in range(5):
        services.upcoming(rater=rater, at=NOON)
    assert Ballot.objects.filter(holder__rater=rater).count() == 2


def test_a_held_pair_is_not_given_to_another_rater():
    study = world.open_study(n_prompts=1)
    world.showing(world.rater(study))
    assert services.lease_ballot(rater=world.rater(study), at=NOON) is None


def test_an_unanswered_pair_returns_to_the_pool_when_its_lease_is_over():
    study = world.open_study(n_prompts=1)
    lost = world.showing(world.rater(study))
    taken = world.showing(world.rater(study), at=NOON + services.LEASE)
    assert taken.ballot == lost.ballot
    assert Ballot.objects.get(holder=taken).lease_expires_at == NOON + 2 * services.LEASE


def test_a_lease_that_ran_out_is_kept_as_long_as_nobody_took_the_ballot():
    rater = world.rater()
    showing = world.showing(rater)
    assert world.showing(rater, at=LATER) == showing
    assert Ballot.objects.get(holder=showing).lease_expires_at == LATER + services.LEASE


def test_a_showing_that_lost_its_ballot_takes_another_of_the_same_sides():
    study = world.open_study(n_prompts=1, votes_per_comparison=4)
    slow = world.rater(study)
    lost = world.showing(slow)
    world.showing(world.rater(study), at=LATER)
    assert not Ballot.objects.filter(holder=lost).exists()
    assert world.showing(slow, at=LATER) == lost
    retaken = Ballot.objects.get(holder=lost)
    assert retaken != lost.ballot
    assert (retaken.first_on_left, retaken.replicate) == (lost.first_on_left, 2)


def test_a_retaken_ballot_is_turned_to_the_sides_that_were_shown():
    study = world.open_study(n_prompts=1, votes_per_comparison=2)
    slow = world.rater(study)
    lost = world.showing(slow)
    world.showing(world.rater(study), at=LATER)
    world.showing(slow, at=LATER)
    retaken = Ballot.objects.get(holder=lost)
    assert retaken.replicate == 1
    assert retaken.first_on_left == lost.first_on_left
    assert world.vote(lost, at=LATER).showing.held_ballot == retaken


def test_a_showing_that_lost_its_ballot_for_good_does_not_strand_the_rater():
    study = world.open_study(n_prompts=2)
    slow, quick = world.rater(study), world.rater(study)
    lost = world.showing(slow)
    world.vote(world.showing(quick, at=LATER), at=LATER)
    passed_on = world.showing(slow, at=LATER)
    assert passed_on.comparison != lost.comparison
    world.vote(passed_on, at=LATER)
    assert services.lease_ballot(rater=slow, at=LATER) is None


def test_a_passed_over_showing_comes_back_when_its_ballot_is_free_again():
    study = world.open_study(n_prompts=1)
    slow, quick = world.rater(study), world.rater(study)
    lost = world.showing(slow)
    world.showing(quick, at=LATER)
    assert services.lease_ballot(rater=slow, at=LATER) is None
    assert world.showing(slow, at=LATER + services.LEASE) == lost


def test_a_passed_over_showing_never_makes_a_third_open_pair():
    study = world.open_study(n_prompts=3)
    slow, quick = world.rater(study), world.rater(study)
    world.showing(slow)
    theirs = world.showing(quick, at=LATER)
    assert len(services.upcoming(rater=slow, at=LATER)) == 2
    services.flag_showing(showing=theirs, reason="MISSING", at=LATER)  # its ballot is free again
    services.upcoming(rater=slow, at=LATER)
    assert Ballot.objects.filter(holder__rater=slow).count() == 2


def test_no_pair_is_shown_to_a_rater_twice_for_one_criterion():
    study = world.open_study(n_prompts=3, votes_per_comparison=4)
    votes = world.vote_to_the_end(world.rater(study))
    assert len({vote.showing.comparison_id for vote in votes}) == len(votes) == 3


def test_every_comparison_gets_its_first_vote_before_any_gets_its_second():
    study = world.open_study(n_systems=3, n_prompts=3, votes_per_comparison=2)
    world.vote_to_the_end(world.rater(study))
    replicates = Ballot.objects.exclude(answered_at=None).values_list("replicate", flat=True)
    assert list(replicates) == [0] * 9


def test_all_ballots_are_filled_when_enough_raters_come():
    study = world.open_study(n_systems=3, n_prompts=2, votes_per_comparison=3)
    for _ in range(3):
        world.vote_to_the_end(world.rater(study))
    assert not Ballot.objects.filter(answered_at=None).exists()
    assert Vote.objects.count() == 18


def test_raters_answer_criteria_in_blocks_and_the_order_is_counterbalanced():
    study = world.open_study(n_prompts=3, criteria=("fit", "quality"), votes_per_comparison=4)
    orders = []
    for _ in range(4):
        rater = world.rater(study)
        keys = [vote.showing.criterion.key for vote in world.vote_to_the_end(rater)]
        assert keys == [key for key in rater.criterion_order for _ in range(3)]
        orders.append(rater.criterion_order)
    assert orders == [["fit", "quality"], ["quality", "fit"]] * 2


def test_the_cap_is_shared_evenly_among_blocks():
    study = world.open_study(n_prompts=9, criteria=("fit", "quality"), votes_per_rater=5)
    votes = world.vote_to_the_end(world.rater(study))
    assert [vote.showing.criterion.key for vote in votes] == ["fit"] * 3 + ["quality"] * 2


def test_what_a_block_cannot_use_of_the_cap_goes_to_the_others():
    study = world.open_study(n_prompts=3, criteria=("fit", "quality"), votes_per_rater=4)
    rater = world.rater(study)
    for _ in range(2):
        services.flag_showing(showing=world.showing(rater), reason="OTHER", at=NOON)
    votes = world.vote_to_the_end(rater)
    assert [vote.showing.criterion.key for vote in votes] == ["fit"] + ["quality"] * 3


def test_two_loaded_pairs_do_not_exceed_the_cap():
    study = world.open_study(n_prompts=4, votes_per_rater=1)
    rater = world.rater(study)
    assert len(services.upcoming(rater=rater, at=NOON)) == 1


def test_a_removed_prompt_is_not_given_out():
    study = world.open_study(n_prompts=2)
    study.prompts.filter(position=0).update(removed_at=NOON, removed_reason="a typo")
    votes = world.vote_to_the_end(world.rater(study))
    assert [vote.showing.comparison.first.prompt.position for vote in votes] == [1]


def test_a_paused_study_gives_out_nothing_until_it_goes_on():
    study = world.open_study()
    rater = world.rater(study)
    services.pause_study(study=study, at=NOON)
    with pytest.raises(services.StudyNotOpen) as caught:
        services.lease_ballot(rater=rater, at=NOON)
    assert caught.value.state == "PAUSED"
    services.open_study(study=study, at=NOON)
    assert services.lease_ballot(rater=rater, at=NOON)


def test_nothing_is_given_to_excluded_or_withdrawn_raters():
    study = world.open_study()
    excluded, withdrawn = world.rater(study), world.rater(study)
    services.exclude_rater(rater=excluded, reason="one-sided", at=NOON)
    services.withdraw_rater(rater=withdrawn, at=NOON)
    assert services.lease_ballot(rater=excluded, at=NOON) is None
    assert services.upcoming(rater=withdrawn, at=NOON) == []


@pytest.mark.parametrize("n_prompts", [3, 20])
def test_leasing_takes_the_same_number_of_queries_at_any_size(n_prompts, django_assert_num_queries):
    rater = world.rater(world.open_study(n_prompts=n_prompts))
    world.vote(services.upcoming(rater=rater, at=NOON)[0])
    with django_assert_num_queries(13):
        services.upcoming(rater=rater, at=NOON)

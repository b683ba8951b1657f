"""Opening a study: what is refused, and how the ballots are drawn."""

from collections import Counter

import pytest

from evalsite.studies.models import Comparison, Entry
from evalsite.voting import services
from evalsite.voting.ballots import draw_ballots
from evalsite.voting.models import Ballot
from tests import world
from tests.world import NOON

pytestmark = pytest.mark.django_db


def test_a_study_that_is_not_prepared_does_not_open():
    study = world.prepared_study()
    Entry.objects.filter(system=study.systems.first()).update(display="")
    with pytest.raises(services.NotPrepared, match="2 images are painted, but not yet in the form"):
        services.open_study(study=study, at=NOON)
    study.refresh_from_db()
    assert study.state == "DRAFT"
    assert not Ballot.objects.exists()


def test_opening_freezes_the_design():
    study = world.open_study()
    study.refresh_from_db()
    assert study.state == "OPEN"
    assert study.opened_at == NOON
    assert study.spec
    assert len(study.spec_sha256) == 64


def test_opening_keeps_how_many_votes_were_planned():
    study = world.prepared_study(n_prompts=3, criteria=("a", "b"), votes_per_comparison=2)
    assert study.n_planned is None
    services.open_study(study=study, at=NOON)
    assert study.n_planned == 3 * 2 * 2
    study.prompts.filter(position=1).update(removed_at=NOON, removed_reason="a typo")
    services.pause_study(study=study, at=NOON)
    services.open_study(study=study, at=NOON)
    study.refresh_from_db()
    assert study.n_planned == 3 * 2 * 2


def test_an_open_study_does_not_open_twice():
    study = world.open_study()
    n_ballots = Ballot.objects.count()
    with pytest.raises(services.StudyNotOpen, match="expected: draft or paused"):
        services.open_study(study=study, at=NOON)
    assert Ballot.objects.count() == n_ballots


def test_every_comparison_has_the_wanted_votes_for_every_criterion():
    world.open_study(n_systems=3, n_prompts=2, criteria=("a", "b"), votes_per_comparison=3)
    wanted = Counter(Ballot.objects.values_list("comparison", "criterion__key"))
    assert len(wanted) == 2 * 3 * 2
    assert set(wanted.values()) == {3}


def test_nothing_removed_gets_a_ballot():
    study = world.prepared_study(n_prompts=3)
    study.prompts.filter(position=1).update(removed_at=NOON, removed_reason="an image failed")
    services.open_study(study=study, at=NOON)
    prompts = Ballot.objects.values_list("comparison__first__prompt__position", flat=True)
    assert sorted(prompts) == [0, 2]


@pytest.mark.parametrize("votes_per_comparison", [1, 2, 3])
def test_sides_are_counterbalanced_within_one(votes_per_comparison):
    study = world.prepared_study(
        n_systems=3, n_prompts=5, criteria=("a", "b"), votes_per_comparison=votes_per_comparison
    )
    systems = {
        comparison.pk: (comparison.first.system_id, comparison.second.system_id)
        for comparison in Comparison.objects.select_related("first", "second")
    }
    for study.seed in range(20):
        by_comparison, by_systems = Counter(), Counter()
        for ballot in draw_ballots(study):
            excess = 1 if ballot.first_on_left else -1
            by_comparison[ballot.criterion, ballot.comparison_id] += excess
            by_systems[ballot.criterion, systems[ballot.comparison_id]] += excess
        assert len(by_systems) == 6
        assert max(map(abs, by_comparison.values())) <= 1
        assert max(map(abs, by_systems.values())) <= 1


def test_the_order_is_random_within_a_round_and_repeats_with_the_seed():
    orders = []
    for seed in (1, 1, 2):
        study = world.open_study(n_prompts=8, votes_per_comparison=2, seed=seed)
        ballots = Ballot.objects.filter(criterion__study=study).order_by("order_key")
        drawn = [
            (ballot.comparison.first.prompt.position, ballot.replicate, ballot.first_on_left)
            for ballot in ballots
        ]
        assert [replicate for _, replicate, _ in drawn] == [0] * 8 + [1] * 8
        orders.append(drawn)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert [position for position, _, _ in orders[0][:8]] != list(range(8))
    assert [position for position, _, _ in orders[0][:8]] != [
        position for position, _, _ in orders[0][8:]
    ]

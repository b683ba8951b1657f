"""What holds when raters, tabs, exclusions and closings come at the same moment.

Real threads, on SQLite and on PostgreSQL. Each important guard is also taken away once, to see
that the check would notice.
"""

import random
from functools import partial

import pytest
from django.db import connection

from evalsite.studies.models import Study
from evalsite.voting import leasing, queries, services
from evalsite.voting.models import Ballot, Rater, Showing, Vote
from tests import world
from tests.races import race, settled
from tests.voting.promises import broken_promises, lent_twice, meanwhile
from tests.world import MINUTE, NOON, SECOND

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LATER = NOON + services.LEASE + MINUTE


def test_fifty_raters_racing_for_few_ballots_fill_each_once():
    study = world.open_study(n_prompts=3, votes_per_comparison=3)
    answers = settled(race([partial(_answer_all, rater) for rater in _raters(study, 50)]))
    assert sum(answers) == 9
    assert not Ballot.objects.filter(answered_at=None).exists()
    assert not lent_twice(study)
    assert not broken_promises(study)


def test_the_check_notices_ballots_that_are_given_while_held(monkeypatch):
    whole = leasing.free
    monkeypatch.setattr(leasing, "free", lambda at: whole(at + 2 * services.LEASE))
    study = world.open_study(n_prompts=3, votes_per_comparison=3)
    for _ in range(2):  # in one race, whoever comes late may find each ballot locked, and none held
        race([partial(services.lease_ballot, rater=rater, at=NOON) for rater in _raters(study, 20)])
    assert lent_twice(study)


def test_the_claim_alone_keeps_a_ballot_from_being_given_twice(monkeypatch):
    monkeypatch.setattr(leasing, "_candidates", _without_locks(leasing._candidates))
    study = world.open_study(n_prompts=3, votes_per_comparison=3)
    settled(race([partial(_answer_all, rater) for rater in _raters(study, 30)]))
    assert not Ballot.objects.filter(answered_at=None).exists()
    assert not lent_twice(study)
    assert not broken_promises(study)


def test_of_two_raters_who_found_one_ballot_free_one_gets_it(monkeypatch):
    monkeypatch.setattr(leasing, "_candidates", _without_locks(leasing._candidates))
    study = world.open_study(n_prompts=3, votes_per_comparison=3)
    first, second = _two_who_lease_at_once(study)
    assert first.ballot_id != second.ballot_id
    assert not broken_promises(study)


def test_the_check_notices_a_claim_that_does_not_repeat_the_condition(monkeypatch):
    _only_on_postgresql("an IMMEDIATE transaction searches and claims in one turn")
    monkeypatch.setattr(leasing, "_candidates", _without_locks(leasing._candidates))
    monkeypatch.setattr(leasing, "_claim", _claim_without_condition)
    study = world.open_study(n_prompts=3, votes_per_comparison=3)
    _two_who_lease_at_once(study)
    assert lent_twice(study)


def _two_who_lease_at_once(study: Study) -> list[Showing]:
    """The second searches before the first has said what it took."""
    one, other = _raters(study, 2)
    with meanwhile(partial(_lease, other, NOON)) as results:
        first = _lease(one, NOON)
    return [first, *settled(results)]


def test_many_tabs_of_one_rater_never_hold_more_than_two_pairs():
    study = world.open_study(n_prompts=8)
    for rater in _raters(study, 4):
        tabs = [partial(services.upcoming, rater=rater, at=NOON)] * 6
        pairs = settled(race(tabs))
        assert all(tab == pairs[0] for tab in pairs)
        assert Showing.objects.filter(rater=rater).count() == 2
    assert not broken_promises(study)


def test_the_check_notices_tabs_that_do_not_take_turns(monkeypatch):
    _only_on_postgresql("an IMMEDIATE transaction takes its turn without a row lock")
    monkeypatch.setattr(leasing, "lock_rater", _read_rater_without_lock)
    study = world.open_study(n_prompts=8, votes_per_comparison=1)
    rater = world.rater(study)
    with meanwhile(partial(services.upcoming, rater=rater, at=NOON)):
        services.upcoming(rater=rater, at=NOON)
    assert any("more than two pairs" in promise for promise in broken_promises(study))


def test_a_tab_waits_for_another_of_its_rater():
    study = world.open_study(n_prompts=8, votes_per_comparison=1)
    rater = world.rater(study)
    with meanwhile(partial(services.upcoming, rater=rater, at=NOON)) as results:
        pairs = services.upcoming(rater=rater, at=NOON)
    assert settled(results) == [pairs]
    assert not broken_promises(study)


def test_a_lease_that_ran_out_is_given_on_while_its_first_rater_votes():
    study = world.open_study(n_prompts=12)
    for _ in range(6):
        slow, quick = world.rater(study), world.rater(study)
        pair = world.showing(slow)
        vote, taken = settled(
            race([partial(world.vote, pair, at=LATER), partial(_lease, quick, LATER)])
        )
        given_on = taken is not None and taken.ballot_id == pair.ballot_id
        assert (vote in queries.counted_votes(study)) is not given_on
        if taken is not None:
            world.vote(taken, at=LATER)
        assert not broken_promises(study)


def test_a_vote_that_is_posted_many_times_is_stored_once():
    pair = world.showing()
    posts = [partial(world.vote, pair, choice) for choice in ("LEFT", "RIGHT") * 4]
    votes = settled(race(posts))
    assert len({(vote.pk, vote.choice) for vote in votes}) == 1
    assert Vote.objects.count() == 1
    assert not broken_promises(pair.rater.study)


def test_raters_are_excluded_while_votes_come_in():
    study = world.open_study(n_prompts=6, votes_per_comparison=3)
    raters = _raters(study, 6)
    acts = [partial(_answer_all, rater) for rater in raters]
    acts += [partial(_exclude, rater) for rater in raters[:3]]
    settled(race(acts))
    assert not Ballot.objects.filter(holder__rater__in=raters[:3]).exists()
    assert not broken_promises(study)
    settled(race([partial(_answer_all, rater) for rater in _raters(study, 4)]))
    assert queries.counted_votes(study).count() == 18


def test_a_study_closes_while_votes_come_in():
    study = world.open_study(n_prompts=8, votes_per_comparison=3)
    raters = _raters(study, 6)
    pending = [world.showing(rater) for rater in raters]
    acts = [partial(_answer_all, rater) for rater in raters]
    *answers, _ = race([*acts, partial(services.close_study, study=study, at=NOON + SECOND)])
    assert all(isinstance(answer, int | services.StudyNotOpen) for answer in answers)
    counted = set(queries.counted_votes(study))
    assert not Ballot.objects.filter(holder__isnull=False, answered_at=None).exists()
    assert not broken_promises(study)
    for pair in pending:
        world.vote(pair)  # repeats, and surplus
    assert set(queries.counted_votes(study)) == counted


def test_two_raters_who_flag_a_comparison_at_once_take_it_out():
    study = world.open_study(n_prompts=1, votes_per_comparison=2)
    pairs = [world.showing(rater) for rater in _raters(study, 2)]
    settled(
        race(
            [
                partial(services.flag_showing, showing=pair, reason="OTHER", at=NOON)
                for pair in pairs
            ]
        )
    )
    comparison = pairs[0].comparison
    comparison.refresh_from_db()
    assert comparison.removed_at == NOON


def test_closing_waits_for_a_pair_that_is_just_being_given_out():
    study = world.open_study()
    rater = world.rater(study)
    with meanwhile(partial(services.close_study, study=study, at=LATER)):
        pair = services.lease_ballot(rater=rater, at=NOON)
    assert study.state == "CLOSED"
    assert not Ballot.objects.filter(holder=pair).exists()
    world.vote(pair)
    assert not queries.counted_votes(study).exists()


def test_closing_waits_for_a_vote_that_is_just_being_stored():
    pair = world.showing()
    study = pair.rater.study
    with meanwhile(partial(services.close_study, study=study, at=NOON)):
        vote = world.vote(pair, at=LATER)
    assert study.state == "CLOSED"
    assert list(queries.counted_votes(study)) == [vote]


def test_raters_who_enrol_at_once_are_counterbalanced_all_the_same():
    study = world.open_study(n_prompts=1, criteria=("fit", "quality"))
    with meanwhile(partial(world.rater, study)) as others:
        first = world.rater(study)
    assert first.criterion_order == ["fit", "quality"]
    assert settled(others)[0].criterion_order == ["quality", "fit"]


def test_five_in_a_hundred_pairs_are_abandoned_and_every_ballot_is_filled_all_the_same():
    study = world.open_study(n_systems=3, n_prompts=4, votes_per_comparison=3, votes_per_rater=9)
    now, rng = NOON, random.Random(1)
    for _ in range(6):
        raters = _raters(study, 4)
        leaving = [rng.randrange(9) if rng.random() < 0.45 else 9 for _ in raters]
        acts = [partial(_answer_all, rater, at=now, n_most=n) for rater, n in zip(raters, leaving)]
        settled(race(acts))
        assert not broken_promises(study)
        if not Ballot.objects.filter(answered_at=None).exists():
            break
        now += services.LEASE + MINUTE
    assert queries.counted_votes(study).count() == 36
    assert Showing.objects.count() > 36, "nobody abandoned anything: the test shows nothing"


def _raters(study: Study, n: int) -> list[Rater]:
    return [world.rater(study) for _ in range(n)]


def _lease(rater: Rater, at) -> Showing | None:
    return services.lease_ballot(rater=rater, at=at)


def _exclude(rater: Rater) -> Rater:
    return services.exclude_rater(rater=rater, reason="one-sided", at=NOON)


def _answer_all(rater: Rater, *, at=NOON, n_most: int = 1000) -> int:
    """Answer what there is; whoever stops early leaves an open pair behind."""
    n = 0
    while (pair := services.lease_ballot(rater=rater, at=at)) is not None and n < n_most:
        world.vote(pair, at=at)
        n += 1
    return n


def _only_on_postgresql(why: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(f"cannot go wrong on SQLite: {why}")


def _without_locks(candidates):
    def search(*question):
        found = candidates(*question)
        found.query.select_for_update = False
        return found

    return search


def _claim_without_condition(ballot, showing, at) -> bool:
    return bool(
        Ballot.objects.filter(pk=ballot.pk).update(
            holder=showing, lease_expires_at=at + services.LEASE
        )
    )


def _read_rater_without_lock(pk: int) -> tuple[Rater, Study]:
    rater = Rater.objects.get(pk=pk)
    return rater, rater.study

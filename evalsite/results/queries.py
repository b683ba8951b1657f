"""What the database says about a study, read in a stated number of queries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from numpy.typing import NDArray

from evalsite.results.looks import Looks, looks_of
from evalsite.results.summary import Column, Design, Votes
from evalsite.stats import Declared
from evalsite.stats.clusters import UNLABELLED, Codes
from evalsite.studies.models import (
    Comparison,
    Criterion,
    Entry,
    Prompt,
    Study,
    System,
    prompt_label,
)
from evalsite.studies.queries import live
from evalsite.studies.resolve import planned_pairs
from evalsite.voting.models import Ballot, Flag, Rater, Vote
from evalsite.voting.queries import counted_votes
from generation.models import ImageEvent, Pace
from generation.spec import Recipe

Choice = Vote.Choice


def outcome_of_first(choice: str, first_on_left: bool) -> float:
    """What a choice between sides says about the comparison's first system: 1 won, 0 lost.

    The only place where sides become systems.
    """
    if choice == Choice.TIE:
        return 0.5
    return float((choice == Choice.LEFT) == first_on_left)


@dataclass(frozen=True, slots=True)
class StudyDesign:
    """What a study asks about, in study order."""

    study: Study
    criteria: tuple[Criterion, ...]
    systems: tuple[System, ...]

    @property
    def names(self) -> dict[str, str]:
        """Key of a system -> what people call it; the key too where a label is not its own."""
        labels = [system.label for system in self.systems]
        return {
            system.key: system.label
            if labels.count(system.label) == 1
            else f"{system.label} ({system.key})"
            for system in self.systems
        }

    @property
    def keys(self) -> Design:
        """Planned pairs come from the design, not from the comparisons: a pair that lost all of
        them was planned too."""
        systems = [system.key for system in self.systems]
        pairs = planned_pairs(systems, self.study.baseline)
        return Design(
            criteria=tuple(criterion.key for criterion in self.criteria),
            systems=tuple(systems),
            pairs=tuple((systems.index(one), systems.index(two)) for one, two in pairs),
            claims=declared((self.study.spec or {}).get("claims", []), systems),
        )


def declared(claims: Iterable[Mapping[str, Any]], systems: Sequence[str]) -> tuple[Declared, ...]:
    """Claims as a file has them, their systems as numbers."""
    return tuple(
        Declared(
            claim["kind"],
            claim["criterion"],
            systems.index(claim["first"]),
            systems.index(claim["second"]),
            claim["margin"],
        )
        for claim in claims
    )


def load_design(study: Study) -> StudyDesign:
    """Two queries."""
    return StudyDesign(study, tuple(study.criteria.all()), tuple(study.systems.all()))


def load_paces(design: StudyDesign) -> tuple[tuple[System, Pace], ...]:
    """The timed paces of each system, in study order: one on each kind of device, with each set of
    options, that a worker has timed its recipe on, for this study or another. Where it was timed
    by several versions of the libraries, the last of these. One query."""
    digests = {system.pk: Recipe.model_validate(system.recipe).digest for system in design.systems}
    timed = Pace.objects.filter(recipe_digest__in=digests.values(), latency_ms__isnull=False)
    last = {
        (pace.device, pace.options, pace.recipe_digest): pace
        for pace in timed.order_by("measured_at", "pk")
    }
    return tuple(
        (system, last[key])
        for system in design.systems
        for key in sorted(last)
        if key[-1] == digests[system.pk]
    )


@dataclass(frozen=True, slots=True, eq=False)
class StoredVotes:
    """The counted votes of a study, and what is known of each beside what it says."""

    votes: Votes
    ids: NDArray[np.int64]  # rising
    choices: NDArray[np.str_]  # as given: LEFT, RIGHT or TIE
    response_ms: NDArray[np.int64]
    voted_at: NDArray[np.object_]  # datetime
    first_on_left: NDArray[np.bool_]
    n_given: NDArray[np.int64]  # answers that were in with this vote, whether they count or not
    n_given_in_all: int


def load_votes(study: Study, design: StudyDesign) -> StoredVotes:
    """Every counted vote of a study in columns, in the order they came. Three queries.

    On an open study a vote may come between two of them: the last number at the start bounds all.
    """
    criteria = {criterion.pk: index for index, criterion in enumerate(design.criteria)}
    systems = {system.pk: index for index, system in enumerate(design.systems)}
    last = _stored_votes().filter(showing__rater__study=study).aggregate(pk=Max("pk"))["pk"] or 0
    rows = (
        counted_votes(study)
        .filter(pk__lte=last)
        .order_by("pk")
        .values_list(
            "pk",
            "showing__criterion_id",
            "showing__comparison__first__system_id",
            "showing__comparison__second__system_id",
            "choice",
            "showing__first_on_left",
            "showing__rater_id",
            "showing__comparison__first__prompt_id",
            "response_ms",
            "voted_at",
        )
    )
    columns: list[Any] = list(zip(*rows.iterator(chunk_size=10_000), strict=True)) or [()] * 10
    ids, criterion, first, second, choice, first_on_left, rater, prompt, response_ms, voted_at = (
        columns
    )
    sides = np.array(first_on_left, dtype=np.bool_)
    votes = Votes(
        criteria=np.array([criteria[pk] for pk in criterion], dtype=np.intp),
        first=np.array([systems[pk] for pk in first], dtype=np.intp),
        second=np.array([systems[pk] for pk in second], dtype=np.intp),
        outcomes=np.array(list(map(outcome_of_first, choice, first_on_left)), dtype=np.float64),
        raters=np.array(rater, dtype=np.intp),
        prompts=np.array(prompt, dtype=np.intp),
        first_on_left=sides,
    )
    counted = np.array(ids, dtype=np.int64)
    given = _ids_given(study, last)
    return StoredVotes(
        votes,
        ids=counted,
        choices=np.array(choice, dtype=np.str_),
        response_ms=np.array(response_ms, dtype=np.int64),
        voted_at=np.array(voted_at, dtype=np.object_),
        first_on_left=sides,
        n_given=np.searchsorted(given, counted, side="right").astype(np.int64),
        n_given_in_all=given.size,
    )


def _ids_given(study: Study, last: int) -> NDArray[np.int64]:
    """Of every answer to a planned ballot, rising. A second take is no further answer: it came
    later than the first, and counts from then on. Nor is one that came after closing; what holds
    its ballot did not, whatever the clocks say."""
    given = _stored_votes().filter(take=1, showing__rater__study=study, pk__lte=last)
    if study.closed_at is not None:
        was_in_time = Q(voted_at__lte=study.closed_at) | Q(showing__held_ballot__isnull=False)
        given = given.filter(was_in_time)
    return np.fromiter(given.order_by("pk").values_list("pk", flat=True), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Record:
    """What stands around the votes: people, prompts, and what was taken out or not counted."""

    prompts: tuple[Prompt, ...]
    raters: tuple[Rater, ...]
    removed_comparisons: tuple[Comparison, ...]
    image_events: tuple[tuple[ImageEvent, Entry], ...]
    flags: dict[str, int]  # reason -> showings that a rater could not judge
    n_ballots: int
    n_stored: int  # answers to planned ballots, counted or not
    n_taken_back: int  # of these, answered a second time

    @property
    def prompt_labels(self) -> dict[int, str]:
        """Id of a prompt -> its name in exports, from its position in the study."""
        return {prompt.pk: prompt_label(prompt.position) for prompt in self.prompts}

    @property
    def rater_labels(self) -> dict[int, str]:
        """Id of a rater -> a name that means nothing outside the export; never the code."""
        return {rater.pk: f"r{number:03d}" for number, rater in enumerate(self.raters, start=1)}


def _image_events(study: Study) -> tuple[tuple[ImageEvent, Entry], ...]:
    """Each event of an image that the study uses, with the entry that it is about. One query,
    and another where there is any."""
    events = list(ImageEvent.objects.filter(image__entries__prompt__study=study).distinct())
    if not events:
        return ()
    entries = Entry.objects.filter(prompt__study=study, image__events__isnull=False)
    rows = entries.select_related("prompt", "system").order_by("-pk")
    of_image = {entry.image_id: entry for entry in rows}
    return tuple((event, of_image[event.image_id]) for event in events)


def load_record(study: Study) -> Record:
    """Seven queries; one more where an image has events."""
    removed = Comparison.objects.filter(
        first__prompt__study=study, removed_at__isnull=False, first__prompt__removed_at=None
    )
    flags = Flag.objects.filter(showing__rater__study=study).values_list("reason")
    return Record(
        prompts=tuple(study.prompts.all()),
        raters=tuple(study.raters.order_by("pk")),
        removed_comparisons=tuple(
            removed.select_related("first__system", "second__system").order_by(
                "first__prompt__position", "pk"
            )
        ),
        image_events=_image_events(study),
        flags=dict(flags.annotate(n=Count("pk")).order_by("reason")),
        n_ballots=_planned_ballots().filter(criterion__study=study).count(),
        **_stored_votes()
        .filter(showing__rater__study=study)
        .aggregate(
            n_stored=Count("pk", filter=Q(take=1)), n_taken_back=Count("pk", filter=Q(take=2))
        ),
    )


def load_looks(study: Study, stored: StoredVotes) -> Looks | None:
    """The looks taken of an opened study; None where its frozen design declares none."""
    spec = study.spec or {}
    if not spec.get("looks") or study.n_planned is None:
        return None
    n_prompts = len(spec["prompts"]) - len(spec["removed_prompts"])
    return looks_of(
        spec["looks"],
        n_planned=study.n_planned,
        tightest_at=study.votes_per_comparison * n_prompts,
        n_given=stored.n_given,
        n_given_in_all=stored.n_given_in_all,
        is_closed=study.state == Study.State.CLOSED,
    )


def describe(stored: StoredVotes, record: Record) -> Votes:
    """The votes as the arithmetic takes them: raters and prompts by their place in the record,
    with a name for each, and the texts of prompts to slice by."""
    prompts = _places(stored.votes.prompts, record.prompts)
    slices = {
        name: _texts([getattr(prompt, name) for prompt in record.prompts]).rows(prompts)
        for name in ("category", "challenge")
    }
    return replace(
        stored.votes,
        raters=_places(stored.votes.raters, record.raters),
        prompts=prompts,
        prompt_names=tuple(record.prompt_labels.values()),
        rater_names=tuple(record.rater_labels.values()),
        response_ms=stored.response_ms,
        slices=slices,
    )


def _places(ids: Codes, rows: tuple[Any, ...]) -> Codes:
    """Each id as the place of its row."""
    places = {row.pk: place for place, row in enumerate(rows)}
    return np.array([places[pk] for pk in ids.tolist()], dtype=np.intp)


def _texts(texts: list[str]) -> Column:
    """A column of text, in which an empty one is no label."""
    names = sorted(set(texts) - {""})
    place = {name: number for number, name in enumerate(names)}
    codes = [place.get(text, UNLABELLED) for text in texts]
    return Column(np.array(codes, dtype=np.intp), tuple(names))


def _planned_ballots() -> QuerySet[Ballot]:
    return Ballot.objects.filter(live("comparison"), purpose=Ballot.Purpose.COUNTED)


def _stored_votes() -> QuerySet[Vote]:
    """On planned ballots, whether they count or not: a check or a repeat is never counted."""
    return Vote.objects.filter(showing__counted=True)


def list_studies() -> QuerySet[Study]:
    """Every study, the newest first, with what may be told of one that is open. One query."""
    return (
        Study.objects.annotate(
            n_ballots=_per_study(_planned_ballots(), "criterion__study"),
            n_filled=_per_study(
                _planned_ballots().filter(answered_at__isnull=False), "criterion__study"
            ),
            n_votes=_per_study(_stored_votes().filter(take=1), "showing__rater__study"),
            n_raters=_per_study(Rater.objects.all(), "study"),
            n_flags=_per_study(Flag.objects.all(), "showing__rater__study"),
        )
        .order_by("-created_at", "-pk")
        .defer("spec")
    )


def _per_study(rows: QuerySet[Any], path: str) -> Coalesce:
    """How many rows belong to the outer query's study; a subquery, so counts stay apart."""
    counted = rows.filter(**{path: OuterRef("pk")}).order_by().values(path)
    return Coalesce(Subquery(counted.annotate(n=Count("pk")).values("n")), Value(0))

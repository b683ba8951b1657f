"""The claims that were declared, held against the votes: of all of them, or up to a look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from evalsite.results.looks import Looks
from evalsite.results.summary import Design, Pair, PairSummary, Summary, Votes, votes_on
from evalsite.stats import Look, Options, Verdict, WinRate, judge, win_rates

Table = Mapping[tuple[str, Pair], WinRate]


def judged(summary: Summary, votes: Votes, looks: Looks | None = None) -> Summary:
    """The summary of these votes with a verdict on each claim of its design."""
    design, options = summary.design, summary.options
    place = {key: number for number, key in enumerate(design.systems)}
    table = {
        (criterion.key, (place[pair.first], place[pair.second])): pair.rate
        for criterion in summary.criteria
        for pair in criterion.pairs
    }
    verdicts = _verdicts(design, votes, options, table, looks)
    return replace(summary, looks=looks, verdicts=verdicts)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What an open study may tell at its last look: each interval allows for all looks."""

    looks: Looks
    pairs: tuple[tuple[str, tuple[PairSummary, ...]], ...]  # by criterion
    verdicts: tuple[Verdict, ...]


def glimpse(design: Design, votes: Votes, options: Options, looks: Looks) -> Glimpse:
    """`votes` are all that count by now, in their order; only those of the last look are read."""
    seen = _upto(votes, looks.taken[-1].n_votes)
    table = _table(design, seen, options)
    names = design.systems
    pairs = {key: list[PairSummary]() for key in design.criteria}
    for (key, (first, second)), rate in table.items():
        limits = looks.interval(rate, options.confidence)
        wider = replace(rate, low=limits.low, high=limits.high, p_value=None)
        pairs[key].append(PairSummary(names[first], names[second], wider))
    return Glimpse(
        looks,
        tuple((key, tuple(found)) for key, found in pairs.items()),
        _verdicts(design, seen, options, table, looks),
    )


def _verdicts(
    design: Design, votes: Votes, options: Options, table: Table, looks: Looks | None
) -> tuple[Verdict, ...]:
    """`table` is of all these votes, which are those of the last look."""
    if not design.claims:
        return ()
    found = (
        [Look(1.0, table)] if looks is None else list(_looks(design, votes, options, table, looks))
    )
    at_any_time = looks.tightest_at if looks and looks.at is None else None
    return judge(design.claims, found, alpha=1 - options.confidence, tightest_at=at_any_time)


def _looks(
    design: Design, votes: Votes, options: Options, table: Table, looks: Looks
) -> Iterator[Look]:
    for cut, fraction in zip(looks.taken, looks.fractions, strict=True):
        is_whole = cut.n_votes == votes.outcomes.size
        rates = table if is_whole else _table(design, _upto(votes, cut.n_votes), options)
        yield Look(fraction, rates)


def _table(design: Design, votes: Votes, options: Options) -> Table:
    """The win rate of every criterion and pair."""
    return {
        (key, pair): rate
        for index, key in enumerate(design.criteria)
        for pair, rate in win_rates(
            votes_on(design, votes, index), pairs=design.pairs, options=options
        ).items()
    }


def _upto(votes: Votes, n: int) -> Votes:
    """The first n votes, without what stands around them."""
    return Votes(
        votes.criteria[:n],
        votes.first[:n],
        votes.second[:n],
        votes.outcomes[:n],
        votes.raters[:n],
        votes.prompts[:n],
        first_on_left=None,
    )

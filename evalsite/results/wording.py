"""Numbers and warnings in words: rounding and labels, for people to read."""

from collections.abc import Iterator
from math import copysign

from django.utils.html import format_html
from django.utils.safestring import SafeString

from evalsite.results.standings import Standing
from evalsite.results.summary import CriterionSummary
from evalsite.studies.wording import counted

LANDMARKS = (0.0, 0.5, 1.0)

ONE_SIDED = (
    "Every vote prefers the same system: the width of the interval rests on an assumption about "
    "how alike votes are."
)

WARNINGS = {
    "no votes": "No vote has been given on this pair.",
    "no decided votes": "Every vote is a tie, and ties are left out: nothing is left to count.",
    "one rater": "All votes come from one rater: the interval speaks of that rater only.",
    "few raters": "Fewer than 5 raters: the interval is a rough one.",
    "one prompt": "All votes are on one prompt: the interval speaks of that prompt only.",
    "few prompts": "Fewer than 10 prompts: a sample this small says little about other prompts. "
    "A report on these prompts only (fixed prompts) may serve better.",
    "no rater labels": "The votes do not say who gave them: votes of one rater are taken as "
    "independent, and the interval may be too narrow.",
    "no prompt labels": "The votes do not say which prompt they are on: votes on one prompt are "
    "taken as independent, and the interval may be too narrow.",
    "few losses": "Fewer than 10 votes went to the less preferred system: "
    "the interval is a rough one.",
    "all won": ONE_SIDED,
    "all lost": ONE_SIDED,
    "all tied": "Every vote is a tie: the width of the interval rests on an assumption about "
    "how alike votes are.",
    "no design effect": "No other pair shows how alike the votes of one rater or prompt are: "
    "they are taken as independent, and the interval may be too narrow.",
}

SIDES_UNBALANCED = (
    "Sides are not balanced: some system stood on one side more often than chance would put it "
    "there, so that its win rates hold the pull of that side as well."
)
SIDES_UNTOLD = (
    "How much the left side draws votes cannot be told apart from the systems: win rates may hold "
    "a pull of the left side."
)

FEW_UNITS = (
    "Agreement is computed from fewer than 30 comparisons: its interval is too narrow, and it may "
    "be far from what more of them would give."
)


# What need not be said where more is said.
IMPLIED = {
    "one rater": "few raters",
    "one prompt": "few prompts",
    "all won": "few losses",
    "all lost": "few losses",
    "all tied": "few losses",
}


def warning_text(code: str) -> str:
    return WARNINGS.get(code, code)


def worth_saying(codes: tuple[str, ...]) -> tuple[str, ...]:
    """A pair's warnings without those that another of them implies."""
    implied = {IMPLIED.get(code) for code in codes}
    return tuple(code for code in codes if code not in implied)


def on_criterion(criterion: CriterionSummary) -> Iterator[str]:
    """What to keep in mind of all pairs of a criterion together."""
    side = criterion.side
    if side is not None and "sides unbalanced" in side.warnings:
        yield SIDES_UNBALANCED
    elif side is not None and side.n and side.logit is None:
        yield SIDES_UNTOLD
    if criterion.agreement.alpha is not None and "few units" in criterion.agreement.warnings:
        yield FEW_UNITS


def percent(probability: float) -> str:
    """Whole percent without the sign; more digits where 0, 50 or 100 would claim too much.

    A limit of 50.3% must not read as 50 beside the sentence that the interval excludes one half.
    What two digits would still put there stands a hundredth beside it.
    """
    for digits in (0, 1, 2):
        text = f"{100 * probability:.{digits}f}"
        if probability in LANDMARKS or float(text) / 100 not in LANDMARKS:
            return text
    return f"{float(text) + copysign(0.01, 100 * probability - float(text)):.2f}"


def duration_text(ms: float) -> str:
    """Milliseconds to three digits, seconds from one on."""
    if ms < 999.5:
        return f"{ms:.3g} ms"
    return f"{ms / 1000:.3g} s" if ms < 99_950 else f"{ms / 1000:,.0f} s"


def interval_text(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}%"


def confidence_text(confidence: float) -> str:
    """Percent without the sign, never rounded: it was chosen, not measured."""
    return f"{100 * confidence:.10g}"


def p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


DECIDED = "{ahead} is preferred over {behind} in {share} of {votes} {interval}."
UNDECIDED = "Undecided: {ahead} is preferred over {behind} in {share} of {votes} {interval}."
EVEN = "Undecided: {ahead} and {behind} are each preferred in {share} of {votes} {interval}."
ALL_TIED = (
    "Undecided: {all_votes} between {ahead} and {behind} {are_ties}, {share} each {interval}."
)
ONE_VOTE = "The only vote between {ahead} and {behind} prefers {ahead}, {share} {interval}."
TIES_ONLY = "Undecided: {all_votes} between {ahead} and {behind} {are_ties}, and ties are left out."
UNASKED = "There are no votes that compare {ahead} with {behind}."


def claim(standing: Standing) -> str:
    """One sentence: who is preferred, how often, and how sure one may be."""
    return _sentence(standing).format(**_words(standing))


def claim_html(standing: Standing) -> SafeString:
    """The same sentence, its names and numbers kept from breaking over lines."""
    words = {
        kind: format_html('<span class="{}">{}</span>', kind, text)
        for kind, text in _words(standing).items()
    }
    return format_html(_sentence(standing), **words)


def _sentence(standing: Standing) -> str:
    rate = standing.rate
    if rate.win_rate is None:
        return TIES_ONLY if rate.n else UNASKED
    if rate.ties == standing.n_read:
        return ALL_TIED
    if standing.n_read == 1:
        return ONE_VOTE
    if standing.is_decided:
        return DECIDED
    return EVEN if standing.is_even else UNDECIDED


def _words(standing: Standing) -> dict[str, str]:
    rate = standing.rate
    words = {
        "ahead": standing.ahead,
        "behind": standing.behind,
        "votes": counted(standing.n_read, "vote") + _ties_among(standing),
        "all_votes": "the only vote" if rate.n == 1 else f"all {counted(rate.n, 'vote')}",
        "are_ties": "is a tie" if rate.n == 1 else "are ties",
    }
    if rate.win_rate is not None and rate.low is not None and rate.high is not None:
        level = confidence_text(rate.confidence)
        words["share"] = f"{percent(rate.win_rate)}%"
        words["interval"] = f"({level}% interval {interval_text(rate.low, rate.high)})"
    return words


def _ties_among(standing: Standing) -> str:
    ties = standing.rate.ties
    if not ties:
        return ""
    if standing.ties == "drop":
        return f", {counted(ties, 'tie')} left out"
    return f", {ties:,} of them {'a tie' if ties == 1 else 'ties'}"


def simulated_note(n_simulated: int, n_votes: int) -> str:
    """What votes of programs are worth: of all votes, or of some."""
    if n_simulated < n_votes:
        return (
            f"Programs gave {n_simulated:,} of these {counted(n_votes, 'vote')}: the numbers are "
            "not those of people alone."
        )
    return (
        "The raters of this study are programs. These numbers show how the platform works and say "
        "nothing about what people prefer."
    )

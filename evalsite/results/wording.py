"""Numbers and warnings in words: rounding and labels, for people to read."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from evalsite.results.summary import PairSummary
from evalsite.stats import WinRate

LANDMARKS = (0.0, 0.5, 1.0)

WARNINGS = {
    "no votes": "No vote has been given on this pair.",
    "no decided votes": "Every vote is a tie, and ties are left out: nothing is left to count.",
    "one rater": "All votes come from one rater: the interval speaks of that rater only.",
    "few raters": "Fewer than 5 raters: the interval is a rough one.",
    "one prompt": "All votes are on one prompt: the interval speaks of that prompt only.",
    "few prompts": "Fewer than 10 prompts: a sample this small says little about other prompts. "
    "Consider reading these prompts as the whole population (fixed prompts).",
    "no rater labels": "The votes do not say who gave them: votes of one rater are taken as "
    "independent, and the interval may be too narrow.",
    "no prompt labels": "The votes do not say which prompt they are on: votes on one prompt are "
    "taken as independent, and the interval may be too narrow.",
    "few losses": "Fewer than 10 votes went to the less preferred system: "
    "the interval is a rough one.",
    "all won": "Every vote prefers the first system: the width of the interval rests on an "
    "assumption about how alike votes are.",
    "all lost": "Every vote prefers the second system: the width of the interval rests on an "
    "assumption about how alike votes are.",
    "all tied": "Every vote is a tie: the width of the interval rests on an assumption about "
    "how alike votes are.",
    "no design effect": "No other pair shows how alike the votes of one rater or prompt are: "
    "they are taken as independent, and the interval may be too narrow.",
}


def warning_text(code: str) -> str:
    return WARNINGS.get(code, code)


def percent(probability: float) -> str:
    """Whole percent without the sign; more digits where 0, 50 or 100 would claim too much.

    A limit of 50.3% must not read as 50 beside the sentence that the interval excludes one half.
    """
    for digits in (0, 1, 2):
        text = f"{100 * probability:.{digits}f}"
        if probability in LANDMARKS or float(text) / 100 not in LANDMARKS:
            break
    return text


def interval_text(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}%"


def p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def is_decided(rate: WinRate) -> bool:
    """Does the interval exclude one half?"""
    return rate.low is not None and rate.high is not None and not rate.low <= 0.5 <= rate.high


DECIDED = "{ahead} is preferred over {behind} in {share} of votes {interval}."
UNDECIDED = (
    "The votes do not decide between {ahead} and {behind}: "
    "{ahead} is preferred in {share} of votes {interval}."
)
UNASKED = "There are no votes that compare {ahead} with {behind}."


def claim(pair: PairSummary) -> str:
    """One sentence: who is preferred, how often, and how sure one may be."""
    sentence, words = _claim(pair)
    return sentence.format(**words)


def claim_html(pair: PairSummary) -> SafeString:
    """The same sentence, its names and numbers kept from breaking over lines."""
    sentence, words = _claim(pair)
    marked = {kind: format_html('<span class="{}">{}</span>', kind, words[kind]) for kind in words}
    return format_html(sentence, **marked)


def _claim(pair: PairSummary) -> tuple[str, dict[str, str]]:
    rate = pair.rate
    if rate.win_rate is None or rate.low is None or rate.high is None:
        return UNASKED, {"ahead": pair.first, "behind": pair.second}
    ahead, behind, share, low, high = pair.first, pair.second, rate.win_rate, rate.low, rate.high
    if share < 0.5:
        ahead, behind, share, low, high = behind, ahead, 1 - share, 1 - high, 1 - low
    return DECIDED if is_decided(rate) else UNDECIDED, {
        "ahead": ahead,
        "behind": behind,
        "share": f"{percent(share)}%",
        "interval": f"({percent(rate.confidence)}% interval {interval_text(low, high)})",
    }

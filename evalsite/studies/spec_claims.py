"""What a study declares beforehand: the claims it sets out to show, and when it may be looked into.

Opening freezes both with the design. A file of claims for votes from elsewhere has the same form.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError

from evalsite.studies.spec_systems import Key, Table

Json = Mapping[str, Any]

ANY_TIME = "any_time"
EARLIEST, LATEST, APART = 0.05, 0.95, 0.01  # of the votes planned
_MARGIN = (
    "a number between 0 and 0.5: how far from one half a win rate makes no difference, as 0.05"
)
_LOOKS = (
    f'"{ANY_TIME}", or shares of the planned votes from {EARLIEST} to {LATEST}, rising by {APART} '
    "or more, as [0.5, 0.75]"
)


class ClaimSpec(Table):
    """One claim: what shall be shown of the first system beside the second, by one criterion."""

    kind: Literal["superiority", "non_inferiority", "equivalence"] = Field(
        description='"superiority", "non_inferiority" or "equivalence"'
    )
    first: Key
    second: Key
    criterion: Key
    margin: float | None = Field(None, gt=0, lt=0.5, description=_MARGIN)


def _looks(value: Any) -> Any:
    """Planned looks, or any number of them."""
    if value == ANY_TIME:
        return value
    numbers = isinstance(value, list) and all(type(share) in (int, float) for share in value)
    if not numbers or not value or not EARLIEST <= value[0] <= value[-1] <= LATEST:
        raise ValueError(f"expected {_LOOKS}, found {_shown(value)}")
    if any(later - sooner < APART - 1e-9 for sooner, later in pairwise(value)):
        raise ValueError(f"expected {_LOOKS}, found {_shown(value)}")
    return [float(share) for share in value]


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


class LooksSpec(Table):
    """When results may be read while the study is open."""

    at: Annotated[list[float] | str, PlainValidator(_looks)] = Field(description=_LOOKS)


# Rules that hold between keys


def claim_problems(
    claims: Sequence[Json | None],
    *,
    systems: Collection[str] | None,
    criteria: Collection[str] | None,
    baseline: str = "",
) -> list[str]:
    """What is wrong with claims about these systems and criteria, each in its own words.

    claims : None for one that cannot be read, so that the others keep their numbers.
    systems, criteria : None where not all are known, and any may be meant.
    baseline : where there is one, the system that alone is compared with all others.
    """
    problems, seen = [], dict[tuple[Any, ...], int]()
    for number, claim in enumerate(claims, start=1):
        if claim is None:
            continue
        problems += [
            f"[[claims]] number {number}, {problem}"
            for problem in _problems_of(claim, systems, criteria, baseline)
        ]
        what = _identity(claim)
        if what in seen:
            problems.append(
                f"[[claims]] number {number}: expected each claim once, "
                f"found that of number {seen[what]} again"
            )
        seen.setdefault(what, number)
    return problems


def _problems_of(
    claim: Json,
    systems: Collection[str] | None,
    criteria: Collection[str] | None,
    baseline: str,
) -> Iterator[str]:
    first, second, criterion = claim["first"], claim["second"], claim["criterion"]
    known = (first, second) if systems is None else systems
    unknown = [key for key in ("first", "second") if claim[key] not in known]
    for key in unknown:
        listed = ", ".join(known)
        yield f'{key}: expected the key of a system ({listed}), found "{claim[key]}"'
    if criteria is not None and criterion not in criteria:
        yield f'criterion: expected one of {", ".join(criteria)}, found "{criterion}"'
    if first == second:
        yield f'second: expected another system than first, found "{second}" again'
    elif not unknown and baseline and baseline not in (first, second):
        yield f'second: expected "{baseline}", to which all others are compared, found "{second}"'
    if claim["kind"] == "superiority" and claim["margin"] is not None:
        yield f'margin: expected none beside kind = "superiority", found {claim["margin"]}'
    if claim["kind"] != "superiority" and claim["margin"] is None:
        yield f'margin: expected {_MARGIN}, beside kind = "{claim["kind"]}"; found nothing'


def _identity(claim: Json) -> tuple[Any, ...]:
    """Two claims of one kind about one pair are one claim, whatever their margins."""
    pair = [claim["first"], claim["second"]]
    if claim["kind"] == "equivalence":
        pair.sort()
    return claim["kind"], *pair, claim["criterion"]


def readable_claims(rows: Any) -> list[Json | None]:
    """The claims of a file with problems; None for each in which one was found."""
    found = list[Json | None]()
    for row in rows if isinstance(rows, list) else ():
        try:
            found.append(ClaimSpec.model_validate(row).model_dump())
        except ValidationError:
            found.append(None)
    return found


def keys_in(rows: Any) -> list[str] | None:
    """The keys of tables in a file, sound or not; None where one has none that could be read.

    A system that still has its `use` uses one that is not known: it would have had that key.
    """
    tables = rows if isinstance(rows, list) else ()
    keys = [
        table.get("key", table.get("use")) if isinstance(table, Mapping) else None
        for table in tables
    ]
    known = [key.strip() for key in keys if isinstance(key, str)]
    return known if keys and len(known) == len(keys) else None


# In words


def claim_text(claim: Json, names: Mapping[str, str]) -> str:
    """What is claimed, as a sentence; `names` is key of a system -> what people read."""
    first, second = names.get(claim["first"], claim["first"]), claim["second"]
    second = names.get(second, second)
    if claim["kind"] == "superiority":
        return f"{first} is preferred over {second}."
    margin = claim["margin"]
    within, low, high = map(points, (margin, 0.5 - margin, 0.5 + margin))
    if claim["kind"] == "equivalence":
        return (
            f"{first} and {second} are equally good, to within {within} points: "
            f"{first} is preferred in {low} to {high}% of votes."
        )
    return (
        f"{first} is as good as {second}, to within {within} points: "
        f"preferred in more than {low}% of votes."
    )


def declared_lines(claims: Sequence[Json], looks: Json, names: Mapping[str, str]) -> list[str]:
    """All that a study declares, a line each."""
    lines = [f"{claim['criterion']}: {claim_text(claim, names)}" for claim in claims]
    return [*lines, *([looks_text(looks)] if looks else [])]


def points(share: float) -> str:
    """A share in percent without the sign, never rounded: it was chosen, not measured."""
    return f"{100 * share:.10g}"


def looks_text(looks: Json) -> str:
    """When a study may be looked into, as a sentence."""
    if looks["at"] == ANY_TIME:
        return "Results may be read at any time while the study is open."
    shares = [f"{points(share)}%" for share in looks["at"]]
    several = " and ".join(filter(None, [", ".join(shares[:-1]), shares[-1]]))
    return f"Results may be read once {several} of the planned votes are in."

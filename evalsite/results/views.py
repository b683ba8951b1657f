"""Pages for staff: the studies, and what each says once it is closed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from evalsite.results import documents, glimpsing, queries
from evalsite.stats import Options
from evalsite.studies.models import Study

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]


def staff_only(view: View[P]) -> View[P]:
    """Strangers are asked to log in; for anybody else but staff these pages do not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.user.is_staff:
            raise Http404
        return view(request, *args, **kwargs)

    return never_cache(require_safe(login_required(guarded)))


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What this site is; staff go on to their studies."""
    if request.user.is_staff:
        return redirect("results:studies")
    return render(request, "results/home.html")


@staff_only
def studies(request: HttpRequest) -> HttpResponse:
    return render(request, "results/studies.html", {"studies": queries.list_studies()})


@staff_only
def study(request: HttpRequest, slug: str) -> HttpResponse:
    """Counts while votes come in, and what a declared look shows; all once the study is closed."""
    found = get_object_or_404(queries.list_studies(), slug=slug)
    if found.state != Study.State.CLOSED:
        link = request.build_absolute_uri(reverse("voting:landing", args=[found.code]))
        context = {"study": found, "rater_link": link, **glimpsing.context(found)}
        return render(request, "results/running.html", context)
    options = _options(request)
    report = documents.read_report(found, at=timezone.now(), options=options)
    context = documents.page_context(report) | {
        "readings": tuple(_readings(report)),
        "suggests_fixed_prompts": report.suggests_fixed_prompts,
        "files": documents.DOCUMENTS,
        "query": _query(options),
    }
    return render(request, "results/study.html", context)


@staff_only
def document(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """One file of the report, made on the spot; 409 while the study is not closed."""
    found = get_object_or_404(Study, slug=slug)
    try:
        report = documents.read_report(found, at=timezone.now(), options=_options(request))
    except documents.StudyStillOpen as error:
        return HttpResponse(f"{error}\n", status=409, content_type="text/plain; charset=utf-8")
    content_type, make = documents.DOCUMENTS[name]
    headers = {"Content-Disposition": f'attachment; filename="{found.slug}-{name}"'}
    return HttpResponse(make(report), content_type=content_type, headers=headers)


# One study, read in several ways: an address says how.


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read the votes, and where the page does so."""

    text: str
    query: str
    is_current: bool


def _options(request: HttpRequest) -> Options:
    return Options(
        fixed_prompts=request.GET.get("prompts") == "fixed",
        ties="drop" if request.GET.get("ties") == "drop" else "half",
    )


def _query(options: Options) -> str:
    """The end of an address that asks for these options; nothing for the usual ones."""
    asked = {"prompts": "fixed"} if options.fixed_prompts else {}
    asked |= {"ties": "drop"} if options.ties == "drop" else {}
    return f"?{urlencode(asked)}" if asked else ""


def _readings(report: documents.Report) -> Iterator[tuple[str, tuple[Reading, ...]]]:
    """What a reader may choose, each with its choices."""
    options = report.summary.options

    def choice(text: str, changed: Options) -> Reading:
        return Reading(text, _query(changed), is_current=changed == options)

    yield (
        "Speaking of",
        (
            choice("prompts like these", replace(options, fixed_prompts=False)),
            choice("these prompts only", replace(options, fixed_prompts=True)),
        ),
    )
    if any(asked.ties_allowed for asked in report.asked.values()):
        yield (
            "A tie",
            (
                choice("counts as half a win", replace(options, ties="half")),
                choice("is left out", replace(options, ties="drop")),
            ),
        )

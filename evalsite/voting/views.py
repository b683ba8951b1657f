"""The rater's pages.

Who may open what: a landing page and the icon are open to all; everything else belongs to the
rater whom the session holds, and does not exist for anybody else. Every change of state is a
POST, but for `next`, which may lease a pair and mark the end, behind a session that a POST has
made.
"""

import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.fields.files import FieldFile
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
    require_safe,
)

from evalsite.middleware import RETRY_AFTER_S
from evalsite.studies.display import CONTENT_TYPE
from evalsite.studies.models import Criterion, Study
from evalsite.voting import queries, services
from evalsite.voting.forms import ConsentForm, FlagForm, VoteForm, consent_version
from evalsite.voting.models import Ballot, Rater, Showing

logger = logging.getLogger(__name__)

STOP_PAGES = {Study.State.PAUSED: "paused", Study.State.CLOSED: "closed"}


# The door


def _get_rater(request: HttpRequest, study_code: str) -> Rater | None:
    """Who this browser is in this study."""
    code = request.session.get("raters", {}).get(study_code)
    found = queries.raters().filter(code=code, study__code=study_code)
    return found.first() if code else None


def _remember(request: HttpRequest, rater: Rater) -> None:
    """One rater for each study: a browser may take part in several.

    Saved here: a database that goes away under the session's middleware would be a 500.
    """
    known = request.session.get("raters", {})
    request.session["raters"] = known | {rater.study.code: rater.code}
    request.session.save()


def _get_own_showing(request: HttpRequest, code: str) -> Showing:
    return get_object_or_404(queries.showings_of(*_own_codes(request)), code=code)


def _own_codes(request: HttpRequest) -> Iterable[str]:
    """Whoever this browser is, in one study or another."""
    codes: dict[str, str] = request.session.get("raters", {})
    return codes.values()


# Coming in


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def landing(request: HttpRequest, code: str) -> HttpResponse:
    """What the study is, and the consent that makes a rater."""
    study = get_object_or_404(Study.objects.exclude(state=Study.State.DRAFT), code=code)
    if _get_rater(request, code):
        return redirect("voting:next", code)
    if page := STOP_PAGES.get(Study.State(study.state)):
        return render(request, "voting/stop.html", {"study": study, "page": page})
    text = study.consent_text
    form = ConsentForm(text, request.POST if request.method == "POST" else None)
    if form.is_valid():
        return _enrol(request, study, form.cleaned_data["version"])
    shown = {"study": study, "form": form, "consent": text, "version": consent_version(text)}
    return render(request, "voting/landing.html", shown, status=400 if form.is_bound else 200)


def _enrol(request: HttpRequest, study: Study, version: str) -> HttpResponse:
    try:
        rater = services.enrol_rater(study=study, consent_version=version, at=timezone.now())
    except services.StudyNotOpen:  # it stopped while the page was read
        return redirect("voting:landing", study.code)
    _remember(request, rater)
    return redirect("voting:instructions", study.code)


@never_cache
@require_GET
def instructions(request: HttpRequest, code: str) -> HttpResponse:
    rater = _get_rater(request, code)
    if rater is None:
        return redirect("voting:landing", code)
    shown = _about(request, rater) | {"ties": queries.offers_ties(rater.study)}
    return render(request, "voting/instructions.html", shown)


@never_cache
@require_GET
def resume(request: HttpRequest, code: str) -> HttpResponse:
    """The rater's own link: back to where they were, on any device."""
    rater = get_object_or_404(queries.raters(), code=code)
    _remember(request, rater)
    return redirect("voting:next", rater.study.code)


def _about(request: HttpRequest, rater: Rater) -> dict[str, Any]:
    """What every page of a rater shows beside its own matter."""
    link = request.build_absolute_uri(reverse("voting:resume", args=[rater.code]))
    return {"study": rater.study, "rater": rater, "resume_url": link}


# Looking


@never_cache
@require_GET
def next_pair(request: HttpRequest, code: str) -> HttpResponse:
    """The pair to judge now, or the page that says why there is none."""
    rater = _get_rater(request, code)
    if rater is None:
        return redirect("voting:landing", code)
    at = timezone.now()
    try:
        leased = services.lease_ballot(rater=rater, at=at)
    except services.StudyNotOpen as stop:
        return _stop(request, rater, STOP_PAGES[Study.State(stop.state)])
    if leased is not None:
        return _show_pair(request, queries.showings_of(rater.code).get(pk=leased.pk))
    if queries.may_get_more(rater):
        return _stop(request, rater, "waiting")
    services.finish_rater(rater=rater, at=at)
    return _stop(request, rater, "thanks")


def _stop(request: HttpRequest, rater: Rater, page: str) -> HttpResponse:
    shown = _about(request, rater) | {"page": page}
    if page == "closed":
        shown["n_late"] = queries.n_late_answers(rater)
    return render(request, "voting/stop.html", shown)


def _show_pair(
    request: HttpRequest, showing: Showing, form: VoteForm | FlagForm | None = None
) -> HttpResponse:
    shown = _pair(showing, queries.progress_of(showing.rater), place=1) | {"form": form}
    return render(
        request,
        "voting/pair.html",
        _about(request, showing.rater) | shown,
        status=200 if form is None else 400,
    )


def _pair(showing: Showing, progress: queries.Progress, place: int) -> dict[str, Any]:
    """What the pair's own part of the page shows; `place` counts the unanswered pairs from one."""
    return {
        "showing": showing,
        "number": progress.done + place,
        "total": progress.total,
        "size": showing.rater.study.display_size,
        "ties": showing.criterion.tie_policy == Criterion.TiePolicy.ALLOWED,
    }


@never_cache
@require_POST
def ahead(request: HttpRequest, code: str) -> HttpResponse:
    """The pairs to answer now and next, for a page that loads them before they are needed."""
    rater = _get_rater(request, code)
    if rater is None:
        raise Http404
    with transaction.atomic():  # leasing locks the rater: no answer is stored before the count
        try:
            leased = services.upcoming(rater=rater, at=timezone.now())
        except services.StudyNotOpen:  # `next` has the words for it
            leased = []
        progress = queries.progress_of(rater)
    own = queries.showings_of(rater.code).filter(pk__in=[showing.pk for showing in leased])
    pairs = [_pair(showing, progress, place) for place, showing in enumerate(own.order_by("pk"), 1)]
    return render(request, "voting/ahead.html", {"pairs": pairs})


@require_GET
def picture(request: HttpRequest, code: str, side: str) -> HttpResponse:
    """One of the two display files of this rater's showing.

    Sent from here, whole, with headers that are the same for every picture: no name, no tag and
    no date of the file.
    """
    showing = get_object_or_404(queries.pictures_of(*_own_codes(request)), code=code)
    file = _display_file(showing, side)
    try:
        with file.open("rb") as opened:
            data = opened.read()
    except (FileNotFoundError, ValueError):
        logger.exception("Showing %s: its %s picture is not in the storage", code, side)
        raise Http404 from None
    except Exception:  # a bucket that is away raises what its own library has
        logger.exception("Showing %s: its %s picture cannot be read now", code, side)
        return _picture_later()
    response = HttpResponse(data, content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "private, max-age=600"
    return response


def _picture_later() -> HttpResponse:
    """The storage is away: the page's script asks again, and then says so."""
    words = "The picture cannot be loaded just now. Please try again in a moment."
    response = HttpResponse(words, status=503, content_type="text/plain; charset=utf-8")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    response.headers["Cache-Control"] = "no-store"
    return response


def _display_file(showing: Showing, side: str) -> FieldFile:
    """The file of the entry (or of the check) that stands on this side."""
    is_first = (side == "left") == showing.first_on_left
    if showing.ballot.purpose == Ballot.Purpose.CHECK:
        return showing.ballot.check_first if is_first else showing.ballot.check_second
    if showing.comparison is None:
        raise Http404
    return showing.comparison.first.display if is_first else showing.comparison.second.display


@require_safe
@cache_control(max_age=86400)
def icon(request: HttpRequest) -> HttpResponse:
    """What browsers ask for by themselves, beside a page without a link to it."""
    data = (settings.BASE_DIR / "static" / "icon.svg").read_bytes()
    return HttpResponse(data, content_type="image/svg+xml")


# Answering


@never_cache
@require_POST
def vote(request: HttpRequest, code: str) -> HttpResponse:
    """Take the rater's answer and lead on to the next pair."""
    showing = _get_own_showing(request, code)
    at = timezone.now()
    form = VoteForm(request.POST)
    if form.is_valid():
        try:
            services.cast_vote(showing=showing, at=at, **form.answer_to(showing, at))
        except services.ChoiceNotOffered:
            form.add_error("choice", "This question asks for the left or the right picture.")
        except services.CannotTakeBack:
            form.add_error("take", "Your last answer can no longer be changed.")
    return _stored(request, showing) if form.is_valid() else _refused(request, showing, form)


@never_cache
@require_POST
def flag(request: HttpRequest, code: str) -> HttpResponse:
    """Pass over a pair that the rater cannot judge."""
    showing = _get_own_showing(request, code)
    form = FlagForm(request.POST)
    if not form.is_valid():
        return _refused(request, showing, form)
    try:
        services.flag_showing(showing=showing, at=timezone.now(), **form.cleaned_data)
    except services.AlreadyAnswered:
        logger.info("Showing %s: flagged after its vote, which stands", code)
    return _stored(request, showing)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def _stored(request: HttpRequest, showing: Showing) -> HttpResponse:
    """Said only after the commit."""
    study = showing.rater.study
    if _wants_json(request):
        return JsonResponse({"stored": True, "open": study.state == Study.State.OPEN})
    return redirect("voting:next", study.code)


def _refused(request: HttpRequest, showing: Showing, form: VoteForm | FlagForm) -> HttpResponse:
    if _wants_json(request):
        is_open = showing.rater.study.state == Study.State.OPEN
        return JsonResponse({"errors": form.errors, "open": is_open}, status=400)
    return _show_pair(request, showing, form)

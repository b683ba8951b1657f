"""Staff pages: who may see them, what they tell while a study runs, and what afterwards."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from evalsite.results.documents import DOCUMENTS
from evalsite.studies.models import Study
from evalsite.voting import services
from evalsite.voting.models import Showing
from tests import world
from tests.results import contract
from tests.results.voted import closed_study, preferring, time_systems, voted_study
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db
LIKED = preferring("system-1", "system-0", "system-2")


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client


def in_state(state: str) -> Study:
    """A study with votes, but for a draft."""
    if state == "DRAFT":
        return world.prepared_study()
    study = voted_study(LIKED)
    if state == "PAUSED":
        services.pause_study(study=study, at=NOON)
    if state == "CLOSED":
        services.close_study(study=study, at=NOON + HOUR)
        time_systems(study, 2000, 51.2)
    return study


def addresses(study: Study) -> list[str]:
    page = f"/studies/{study.slug}/"
    return ["/studies/", page, *(f"{page}{name}" for name in DOCUMENTS)]


# Who may see


def test_strangers_are_asked_to_log_in(client: Client):
    for address in addresses(in_state("CLOSED")):
        response = client.get(address)
        assert response.status_code == 302, address
        assert response["Location"] == f"{reverse('admin:login')}?next={address}"


def test_for_people_who_are_not_staff_the_pages_do_not_exist(client: Client):
    client.force_login(User.objects.create_user("plain"))
    for address in addresses(in_state("CLOSED")):
        assert client.get(address).status_code == 404, address


def test_a_rater_session_opens_nothing(client: Client):
    study = voted_study(LIKED)
    client.get(f"/r/{study.raters.earliest('pk').code}")
    assert [client.get(address).status_code for address in addresses(study)] == [302] * len(
        addresses(study)
    )


def test_pages_are_kept_by_no_cache_and_change_nothing(staff: Client):
    for address in addresses(in_state("CLOSED")):
        assert "no-store" in staff.get(address)["Cache-Control"]
        assert staff.post(address).status_code == 405


def test_an_unknown_study_or_file_is_not_found(staff: Client):
    study = in_state("CLOSED")
    assert staff.get("/studies/nobody/").status_code == 404
    assert staff.get("/studies/nobody/report.json").status_code == 404
    assert staff.get(f"/studies/{study.slug}/raters.csv").status_code == 404


def test_the_first_page_is_neutral_and_leads_staff_on(client: Client):
    page = client.get("/")
    assert page.status_code == 200
    assert reverse("admin:login") in page.content.decode()
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get("/")["Location"] == "/studies/"


# While a study runs


@pytest.mark.parametrize("state", ["DRAFT", "OPEN", "PAUSED"])
def test_a_study_that_is_not_closed_shows_no_result_anywhere(staff: Client, state: str):
    study = in_state(state)
    for address in (
        "/studies/",
        f"/studies/{study.slug}/",
        f"/studies/{study.slug}/?prompts=fixed",
    ):
        html = staff.get(address).content.decode()
        telling = (
            "%",
            "system-",
            "system 0",
            "<svg",
            "preferred",
            "win rate",
            "<!--",
            "report.json",
        )
        assert [word for word in telling if word in html.lower()] == [], address
    for name in DOCUMENTS:
        response = staff.get(f"/studies/{study.slug}/{name}")
        assert response.status_code == 409
        assert response.content.decode() == (
            f"Study {study.slug} is {state.lower()}: a report can be made once it is closed.\n"
        )


def test_a_running_study_shows_how_full_it_is(staff: Client):
    study = world.open_study(n_prompts=2, votes_per_comparison=2)
    world.vote_to_the_end(world.rater(study))
    services.flag_showing(showing=world.showing(world.rater(study)), reason="MISSING", at=NOON)
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(\d+)(?: <span.*?>of (\d+)</span>)?</dd>", html)
    assert tiles == [
        ("Ballots filled", "2", "4"),
        ("Votes", "2", ""),
        ("Raters", "2", ""),
        ("Flags", "1", ""),
    ]


def test_thousands_are_set_apart_and_each_count_says_what_it_is(staff: Client):
    study = world.open_study(n_prompts=1, votes_per_comparison=1234, looks={"at": [0.9]})
    words = words_of(staff.get(f"/studies/{study.slug}/"))
    assert "Ballots filled 0 of 1,234 A ballot is one vote that the study wants." in words
    assert "Votes 0 All that were given, also those that do not count." in words
    assert "Flags 0 Times that a rater could not judge a pair." in words
    assert "The next look is at 1,111 votes." in words
    listed = words_of(staff.get("/studies/"))
    assert "0 of 1,234" in listed
    assert "A ballot is one vote that a study wants." in listed


def test_the_link_for_raters_leads_to_the_study(staff: Client, client: Client):
    study = world.open_study()
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    (link,) = re.findall(r'value="http://testserver(/s/[^"]+)"', html)
    assert study.code in link
    assert client.get(link).status_code == 200


# After closing


def test_a_closed_study_shows_its_results(staff: Client):
    study = in_state("CLOSED")
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "System 1 is preferred over System 0 in 100% of 3 votes" in text
    assert study.criteria.get().question in text
    assert "Fewer than 5 raters" in text
    for name in DOCUMENTS:
        assert f'href="{name}"' in html


def test_every_attribute_of_a_drawing_is_a_number_in_any_language(staff: Client):
    slug = in_state("CLOSED").slug
    german = staff.get(f"/studies/{slug}/", headers={"accept-language": "de"}).content.decode()
    names = "x|y|x1|x2|y1|y2|cx|cy|r|rx|width|height"
    drawings = "".join(re.findall(r"<svg.*?</svg>", german, re.DOTALL))
    values = re.findall(rf'\s(?:{names})="([^"]*)"', drawings)
    assert len(values) > 30
    assert any("." in value for value in values)
    assert [value for value in values if not re.fullmatch(r"-?\d+(\.\d+)?%?", value)] == []


def test_pages_hold_nothing_inline_that_the_policy_forbids(staff: Client):
    for state in ("OPEN", "CLOSED"):
        html = staff.get(f"/studies/{in_state(state).slug}/").content.decode()
        assert " style=" not in html
        assert "<style" not in html
        assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
        assert re.findall(r"\son\w+=", html) == []


def test_a_simulated_study_is_labelled_on_every_page(staff: Client):
    study = closed_study(LIKED, simulated=True)
    assert "Simulated" in staff.get("/studies/").content.decode()
    assert "Simulated" in staff.get(f"/studies/{study.slug}/").content.decode()


def test_files_are_downloads_named_after_the_study(staff: Client):
    study = in_state("CLOSED")
    for name, (content_type, _) in DOCUMENTS.items():
        response = staff.get(f"/studies/{study.slug}/{name}")
        assert response.status_code == 200
        assert response["Content-Type"] == content_type
        assert response["Content-Disposition"] == f'attachment; filename="{study.slug}-{name}"'
    report = json.loads(staff.get(f"/studies/{study.slug}/report.json").content)
    contract.check(report)


def test_a_reader_may_speak_of_these_prompts_only(staff: Client):
    study = in_state("CLOSED")
    page = staff.get(f"/studies/{study.slug}/?prompts=fixed").content.decode()
    assert 'href="report.json?prompts=fixed"' in page
    report = json.loads(staff.get(f"/studies/{study.slug}/report.json?prompts=fixed").content)
    assert report["settings"]["options"]["fixed_prompts"] is True


def test_sentence_row_and_bar_of_a_pair_say_the_same(staff: Client):
    """Whichever system is ahead: the first of the study, the second, or neither."""
    winners = {"01": iter("1101"), "02": iter("00=0"), "12": iter("1212")}

    def choose(pair: Showing) -> str:
        assert pair.comparison is not None
        systems = [pair.comparison.first.system, pair.comparison.second.system]
        first, second = (system.key[-1] for system in systems)
        winner = next(winners[first + second])
        if winner == "=":
            return "TIE"
        loser = second if winner == first else first
        return preferring(f"system-{winner}", f"system-{loser}")(pair)

    study = closed_study(choose, n_systems=3, n_prompts=2, n_raters=2, tie_policy="ALLOWED")
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    claims = re.findall(
        r'<span class="ahead">([^<]+)</span> (?:is preferred over|and) '
        r'<span class="behind">([^<]+)</span>.*?<span class="share">([^<]+)</span>.*?'
        r'<span class="interval">\(95% interval ([^<]+)\)</span>',
        html,
    )
    rows = re.findall(
        r'<span class="ahead">([^<]+)</span> <span class="behind">over ([^<]+)</span>.*?'
        r'<span class="value">([^<]+)</span>.*?data-label="95% interval">([^<]+)</td>',
        html,
        re.DOTALL,
    )
    assert [row[:3] for row in rows] == [
        ("System 1", "System 0", "75%"),
        ("System 0", "System 2", "88%"),
        ("System 1", "System 2", "50%"),
    ]
    assert rows == claims
    points = [float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)%"', html)]
    assert points == [75, 87.5, 50]
    # And the files' numbers are the same votes, in the study's order.
    report = json.loads(staff.get(f"/studies/{study.slug}/report.json").content)
    (criterion,) = report["criteria"].values()
    assert [pair["win_rate"] for pair in criterion["pairs"]] == [0.25, 0.875, 0.5]


def words_of(page: Any) -> str:
    """A page as somebody reads it aloud."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


@pytest.mark.parametrize(
    ("choose", "options", "expected"),
    [
        (LIKED, {"n_raters": 1}, "1 vote · 1 rater · 1 prompt · ties not allowed"),
        (LIKED, {"n_raters": 1}, "with 1 vote planned for each comparison and criterion"),
        (LIKED, {"n_raters": 1}, "Where all votes share one rater or one prompt"),
        (LIKED, {"n_raters": 2}, "2 votes · 2 raters · 1 prompt · ties not allowed"),
        (lambda pair: "TIE", {"tie_policy": "ALLOWED"}, "3 votes · 3 raters · 1 prompt · 3 ties"),
        (lambda pair: "TIE", {"tie_policy": "ALLOWED", "n_raters": 1}, "1 prompt · 1 tie"),
        (LIKED, {"n_raters": 0, "votes_per_comparison": 2}, "There are no votes that compare"),
        (LIKED, {"n_raters": 0, "votes_per_comparison": 2}, "Votes counted 0 of 2 planned"),
    ],
)
def test_a_handful_of_votes_is_told_in_good_english(
    staff: Client, choose: Any, options: dict[str, Any], expected: str
):
    study = closed_study(choose, **options)
    words = words_of(staff.get(f"/studies/{study.slug}/"))
    assert expected in words
    assert re.findall(r"\b1 (?:vote|rater|prompt|tie|pair|pixel)s\b", words) == []


def test_a_reader_may_leave_ties_out_where_there_are_any(staff: Client):
    forced = staff.get(f"/studies/{closed_study(LIKED).slug}/")
    assert "ties=drop" not in forced.content.decode()
    assert "a tie counting" not in words_of(forced)
    study = closed_study(lambda pair: "TIE", tie_policy="ALLOWED")
    assert f'href="/studies/{study.slug}/?ties=drop"' in (
        staff.get(f"/studies/{study.slug}/").content.decode()
    )
    page = staff.get(f"/studies/{study.slug}/?ties=drop&prompts=fixed")
    assert "and ties are left out" in words_of(page)
    assert 'href="report.json?prompts=fixed&amp;ties=drop"' in page.content.decode()
    asked = staff.get(f"/studies/{study.slug}/report.json?prompts=fixed&ties=drop")
    options = json.loads(asked.content)["settings"]["options"]
    assert (options["ties"], options["fixed_prompts"]) == ("drop", True)


def test_below_ten_prompts_the_page_suggests_speaking_of_these_only(staff: Client):
    few, enough = (closed_study(LIKED, n_prompts=n, n_raters=1) for n in (9, 10))
    suggestion = "Fewer than 10 prompts say little about prompts like them."
    assert suggestion in words_of(staff.get(f"/studies/{few.slug}/"))
    assert suggestion not in words_of(staff.get(f"/studies/{few.slug}/?prompts=fixed"))
    assert suggestion not in words_of(staff.get(f"/studies/{enough.slug}/"))


# How many queries


def test_the_list_costs_the_same_for_any_number_of_studies(
    staff: Client, django_assert_num_queries: Any
):
    closed_study(LIKED)
    with django_assert_num_queries(3):  # session, user, studies
        staff.get("/studies/")
    for state in ("DRAFT", "OPEN", "PAUSED"):
        in_state(state)
    with django_assert_num_queries(3):
        response = staff.get("/studies/")
    assert response.content.decode().count("<tr>") == 1 + 4


def test_results_cost_the_same_for_any_number_of_votes(
    staff: Client, django_assert_num_queries: Any
):
    for n_prompts in (1, 3):
        study = closed_study(LIKED, n_prompts=n_prompts)
        with django_assert_num_queries(17):
            staff.get(f"/studies/{study.slug}/")

"""Studies in the admin: a draft can be edited and led on, evidence and open studies only read."""

from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from evalsite.studies import queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Comparison, Criterion, Entry, Prompt, Study, System
from evalsite.voting.services import open_study
from generation.models import Image
from tests.studies.files import PROMPTS, draft, painted
from tests.world import NOON

pytestmark = pytest.mark.django_db
ROWS = [Study, Criterion, System, Prompt, Entry, Comparison]


def signed_in(*permissions: str) -> Client:
    """Staff with these rights only; with none named, a superuser."""
    user = User.objects.create_user("staff", is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(row: object, kind: str = "change") -> str:
    name = type(row).__name__.lower()
    return reverse(f"admin:studies_{name}_{kind}", args=[row.pk])


def act_page(study: Study, act: str) -> str:
    return reverse("admin:studies_study_act", args=[study.pk, act])


def prepared(folder) -> Study:
    study = draft(folder)
    services.prepare(study, at=NOON)
    make_display_files(study=study, at=NOON)
    return study


def fields_of(client: Client, row: object) -> dict[str, object]:
    """The form as the page shows it, ready to be sent back."""
    form = client.get(page(row)).context["adminform"].form
    values = {name: form.get_initial_for_field(f, name) for name, f in form.fields.items()}
    sent = {}
    for name, value in values.items():
        prepared_value = form.fields[name].prepare_value(value)
        if prepared_value is not None and prepared_value is not False:
            sent[name] = prepared_value
    return sent


def save(client: Client, row: object, **changes: object) -> None:
    answer = client.post(page(row), fields_of(client, row) | changes | inline_counts(row))
    assert answer.status_code == 302, answer.context["errors"]


def inline_counts(row: object) -> dict[str, int]:
    if not isinstance(row, Study):
        return {}
    return {
        f"{table}-{what}": 0
        for table in ("criteria", "systems")
        for what in ("TOTAL_FORMS", "INITIAL_FORMS")
    }


def test_every_table_has_a_list_and_a_page(tmp_path):
    prepared(tmp_path)
    client = signed_in()
    for model in ROWS:
        name = model.__name__.lower()
        assert client.get(reverse(f"admin:studies_{name}_changelist")).status_code == 200
        row = model.objects.first()
        answer = client.get(page(row))
        assert answer.status_code == 200
        assert "script-src" not in answer.headers["Content-Security-Policy"]


def test_a_study_leads_to_its_own_page_and_says_its_recipes_without_what_is_empty(tmp_path):
    study = draft(tmp_path)
    html = signed_in().get(page(study)).content.decode()
    assert f'href="/studies/{study.slug}/"' in html
    assert "family: imported" in html
    assert "unet" not in html


def test_entries_show_their_seed(tmp_path):
    study = draft(tmp_path, systems=[painted("a"), painted("b", steps=2)])
    services.prepare(study, at=NOON)
    listed = signed_in().get(reverse("admin:studies_entry_changelist")).content.decode()
    for prompt in study.prompts.all():
        assert str(queries.seed_of(study.seed, prompt.text)) in listed


@pytest.mark.parametrize("name", ["entry", "comparison", "prompt", "system", "study"])
def test_lists_take_the_same_few_queries_at_any_size(tmp_path, name, django_assert_max_num_queries):
    prompts = [f"prompt {i}" for i in range(30)]
    services.prepare(draft(tmp_path, prompts=prompts), at=NOON)
    client = signed_in()
    with django_assert_max_num_queries(12):
        client.get(reverse(f"admin:studies_{name}_changelist"))


def test_acts_lead_a_study_from_draft_to_closed(tmp_path):
    study = draft(tmp_path)
    client = signed_in()
    assert client.get(page(study)).context["acts"] == ["prepare"]
    for act, state in (
        ("prepare", "DRAFT"),
        ("open", "OPEN"),
        ("pause", "PAUSED"),
        ("open", "OPEN"),
        ("close", "CLOSED"),
    ):
        # Django's own link away from the page is called Close as well.
        assert f">{act.capitalize()} study</a>" in client.get(page(study)).content.decode()
        asked = client.get(act_page(study, act))
        assert asked.status_code == 200
        assert 'method="post"' in asked.content.decode()
        client.post(act_page(study, act))
        if act == "prepare":
            make_display_files(at=NOON)
            assert client.get(page(study)).context["acts"] == ["prepare", "open"]
        study.refresh_from_db()
        assert study.state == state
    assert client.get(page(study)).context["acts"] == []
    assert "Closed at:" in client.get(page(study)).content.decode()


def test_preparing_says_how_much_is_to_be_painted(tmp_path):
    study = draft(tmp_path, systems=[painted("a"), painted("b", steps=2)])
    answer = signed_in().post(act_page(study, "prepare"), follow=True).content.decode()
    assert "6 images are to be painted" in answer


def test_preparing_twice_says_that_nothing_is_left(tmp_path):
    answer = signed_in().post(act_page(prepared(tmp_path), "prepare"), follow=True)
    assert "No image is left to be painted: the study can be opened." in answer.content.decode()


def test_a_draft_can_be_deleted_with_all_that_was_laid(tmp_path):
    study = prepared(tmp_path)
    n_images = Image.objects.count()
    client = signed_in()
    assert "protected" not in client.get(page(study, "delete")).content.decode()
    client.post(page(study, "delete"), {"post": "yes"})
    assert [model.objects.count() for model in ROWS] == [0] * len(ROWS)
    assert Image.objects.count() == n_images > 0


def test_a_study_that_was_opened_is_kept_and_the_page_says_why(tmp_path):
    study = prepared(tmp_path)
    open_study(study=study, at=NOON)
    client = signed_in()
    sent = {"action": "delete_selected", "_selected_action": [study.pk], "post": "yes"}
    answer = client.post(reverse("admin:studies_study_changelist"), sent)
    assert "is open: what raters may have seen is kept" in answer.content.decode()
    assert Study.objects.get() == study


def test_the_admin_bears_the_name_of_the_project():
    assert "Django administration" not in signed_in().get("/admin/").content.decode()


def test_an_act_happens_on_post_only(tmp_path):
    study = prepared(tmp_path)
    signed_in().get(act_page(study, "open"))
    study.refresh_from_db()
    assert study.state == "DRAFT"


def test_preparing_says_first_what_is_missing_here(tmp_path):
    study = draft(tmp_path, systems=[painted("alpha"), painted("beta", steps=2)])
    asked = signed_in().get(act_page(study, "prepare")).content.decode()
    assert "alpha: " in asked
    assert "hf download org/model" in asked


def test_an_act_on_no_study_is_not_found(tmp_path):
    address = reverse("admin:studies_study_act", args=["nonsense", "open"])
    assert signed_in().get(address).status_code == 404


def test_a_refused_act_says_why(tmp_path):
    study = draft(tmp_path)
    answer = signed_in().post(act_page(study, "open"), follow=True)
    assert "Not prepared: the pairs are not laid: 3 missing" in answer.content.decode()
    answer = signed_in_again().post(act_page(study, "close"), follow=True)
    assert "expected: open or paused" in answer.content.decode()


def signed_in_again() -> Client:
    client = Client()
    client.force_login(User.objects.get())
    return client


def test_whoever_may_only_look_cannot_act(tmp_path):
    study = prepared(tmp_path)
    client = signed_in("view_study")
    assert client.get(page(study)).context["acts"] == []
    assert client.post(act_page(study, "open")).status_code == 403
    study.refresh_from_db()
    assert study.state == "DRAFT"


def test_strangers_are_sent_to_sign_in(tmp_path):
    study = prepared(tmp_path)
    answer = Client().post(act_page(study, "open"))
    assert answer.status_code == 302
    assert "/login/" in answer["Location"]


def test_an_opened_design_and_laid_rows_are_read_only(tmp_path):
    study = prepared(tmp_path)
    entry, comparison = Entry.objects.first(), Comparison.objects.first()
    open_study(study=study, at=NOON)
    client = signed_in()
    rows = [study, study.prompts.first(), study.systems.first(), study.criteria.first()]
    for row in [*rows, entry, comparison]:
        assert not client.get(page(row)).context["has_change_permission"]
        assert client.post(page(row), {"title": "x", "text": "x"}).status_code == 403
        assert client.post(page(row, "delete"), {"post": "yes"}).status_code == 403
    study.refresh_from_db()
    assert study.title == "A small study"


def test_where_a_study_comes_from_is_told_in_lines_with_links(tmp_path):
    study = draft(tmp_path)
    study.notes = {"seed": "our choice", "display.size": "<https://example.org/a>, page 5 & 6"}
    study.prompt_source = {"file": "p.tsv", "include": {"Category": ["Food", "Arts"]}, "draw": 9}
    study.save()
    html = signed_in().get(page(study)).content.decode()
    assert "<b>file</b>: p.tsv<br><b>include.Category</b>: Food, Arts<br><b>draw</b>: 9<" in html
    link = '<a href="https://example.org/a" rel="nofollow">https://example.org/a</a>'
    told = f"<b>display.size</b>: &lt;{link}&gt;, page 5 &amp; 6<"
    assert f"<b>seed</b>: our choice<br>{told}" in html
    save(signed_in_again(), study, title="Another")
    study.refresh_from_db()
    assert study.notes["seed"] == "our choice"
    assert study.prompt_source["draw"] == 9


CLAIM = {
    "kind": "equivalence",
    "first": "alpha",
    "second": "beta",
    "criterion": "quality",
    "margin": 0.1,
}


def test_what_a_study_declares_is_shown_and_frozen_with_its_design(tmp_path):
    study = draft(tmp_path, claims=[CLAIM], looks={"at": "any_time"})
    client = signed_in()
    html = client.get(page(study)).content.decode()
    assert (
        "quality: System alpha and System beta are equally good, to within 10 points: "
        "System alpha is preferred in 40 to 60% of votes." in html
    )
    assert "Results may be read at any time while the study is open." in html
    save(client, study, title="Another")
    study.refresh_from_db()
    assert (study.claims, study.looks) == ([CLAIM], {"at": "any_time"})
    services.prepare(study, at=NOON)
    make_display_files(study=study, at=NOON)
    open_study(study=study, at=NOON)
    assert study.spec is not None
    assert (study.spec["claims"], study.spec["looks"]) == ([CLAIM], {"at": "any_time"})
    opened = client.get(page(study)).content.decode().split("Votes planned:")[1]
    assert f'<div class="readonly">{study.n_planned}</div>' in opened[:200]
    # Another margin is another study: applied to this one it is refused.
    with pytest.raises(services.StudyNotDraft):
        draft(tmp_path, claims=[CLAIM | {"margin": 0.2}], looks={"at": "any_time"})


def test_a_claim_about_what_an_edit_took_away_keeps_the_study_shut(tmp_path):
    study = draft(tmp_path, claims=[CLAIM])
    services.prepare(study, at=NOON)
    make_display_files(study=study, at=NOON)
    assert queries.is_prepared(study)
    save(signed_in(), study.criteria.get(), key="beauty")
    assert queries.obstacles(study) == [
        '[[claims]] number 1, criterion: expected one of beauty, found "quality"'
    ]


def test_editing_a_prompt_of_a_draft_takes_its_entries_out(tmp_path):
    study = prepared(tmp_path)
    save(signed_in(), study.prompts.get(position=1), text="something else")
    assert Entry.objects.filter(prompt__position=1).count() == 0
    assert queries.obstacles(study) == ["the pairs are not laid: 1 missing, 0 no longer wanted"]


def test_editing_a_category_keeps_what_was_laid(tmp_path):
    study = prepared(tmp_path)
    save(signed_in(), study.prompts.get(position=1), category="weather")
    assert study.prompts.get(position=1).category == "weather"
    assert queries.is_prepared(study)


def test_a_prompt_of_a_draft_can_be_deleted_with_its_entries(tmp_path):
    study = prepared(tmp_path)
    prompt = study.prompts.get(position=1)
    answer = signed_in().post(page(prompt, "delete"), {"post": "yes"})
    assert answer.status_code == 302
    assert study.prompts.count() == 2
    assert Comparison.objects.count() == 2
    assert queries.is_prepared(study)


def test_editing_the_display_makes_the_files_anew(tmp_path):
    study = prepared(tmp_path)
    save(signed_in(), study, display_size=32)
    assert not Entry.objects.exclude(display="").exists()
    make_display_files(at=NOON)
    assert queries.is_prepared(study)


def test_editing_the_title_keeps_the_files(tmp_path):
    study = prepared(tmp_path)
    save(signed_in(), study, title="Another title")
    study.refresh_from_db()
    assert study.title == "Another title"
    assert queries.is_prepared(study)


def test_another_seed_takes_the_entries_out(tmp_path):
    study = prepared(tmp_path)
    save(signed_in(), study, seed=8)
    assert not Entry.objects.exists()


def test_what_an_edit_takes_out_is_painted_no_more(tmp_path):
    study = draft(tmp_path, systems=[painted("a"), painted("b", steps=2)])
    services.prepare(study, at=NOON)
    save(signed_in(), study.prompts.get(position=1), text="something else")
    cancelled = Image.objects.filter(status="CANCELLED")
    assert set(cancelled.values_list("prompt", flat=True)) == {PROMPTS[1]}
    save(signed_in_again(), study, seed=8)
    assert cancelled.count() == Image.objects.count() == 6


def test_control_characters_are_refused_in_forms(tmp_path):
    study = prepared(tmp_path)
    client = signed_in()
    rows = {"title": study, "question": study.criteria.get(), "label": study.systems.first()}
    for field, row in rows.items():
        sent = fields_of(client, row) | inline_counts(row) | {field: "bell\a"}
        answer = client.post(page(row), sent)
        assert answer.status_code == 200
        assert "found the control character U+0007" in answer.content.decode()
    save(client, study, instructions="one\ttab\r\nand line ends")


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (
            r'{"checkpoint": "org/\u0000x"}',
            "checkpoint: expected text, found the control character",
        ),
        (
            r'{"timesteps": ["a", "\u0007"]}',
            "timesteps: number 2: expected text, found the control",
        ),
        (r'{"stages": [{"\u0000": 1}]}', r"stages: number 1: name '\x00': expected text, found"),
        (r'{"\ud800": [1, null, true]}', r"name '\ud800': expected text, found half a character"),
        (r'{"checkpoint": "\ud800"}', "checkpoint: expected text, found half a character, U+D800"),
        (r'"\u0007"', "expected text, found the control character U+0007"),
        ('{"checkpoint": "a\0b"}', "Enter a valid JSON."),
    ],
)
def test_control_characters_are_refused_in_json_at_their_field(tmp_path, recipe, problem):
    system = draft(tmp_path).systems.first()
    client = signed_in()
    answer = client.post(page(system), fields_of(client, system) | {"recipe": recipe})
    form = answer.context["adminform"].form
    assert form.errors.keys() == {"recipe"}
    (told,) = form.errors["recipe"]
    assert told.startswith(problem)
    assert recipe in unescape(answer.content.decode())  # as it was typed


def test_a_recipe_must_be_one_that_can_be_painted(tmp_path):
    study = draft(tmp_path, systems=[painted("a"), painted("b", steps=2)])
    client = signed_in()
    system = study.systems.first()
    sent = fields_of(client, system) | {"recipe": '{"family": "sdxl", "checkpoint": "org/x"}'}
    answer = client.post(page(system), sent)
    assert answer.status_code == 200
    assert "revision: field required" in answer.content.decode()

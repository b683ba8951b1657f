"""A file becomes a draft; what was edited elsewhere or opened is not overwritten."""

import shutil

import pytest
from django.test import override_settings

from evalsite.studies import queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Comparison, Entry, Prompt, Study
from evalsite.studies.services import CannotApply, DraftEdited, StudyNotDraft, apply_spec
from evalsite.studies.spec import load_spec
from evalsite.voting.services import open_study
from generation.models import Image
from generation.spec import folder_revision
from tests.studies.files import PROMPTS, draft, image_folder, imported, painted, study_file
from tests.world import NOON

pytestmark = pytest.mark.django_db


def prepared(folder, **changes) -> Study:
    study = draft(folder, **changes)
    services.prepare(study, at=NOON)
    make_display_files(study=study, at=NOON)
    return study


def test_a_file_becomes_a_draft(tmp_path):
    study = draft(
        tmp_path,
        prompts=[{"text": "a", "category": "x", "challenge": "y"}, "b"],
        pairs="baseline",
        baseline="beta",
        votes_per_rater=12,
        sources={"seed": "our choice", "display": {"size": "the paper"}},
    )
    assert (study.slug, study.state, study.pairing) == ("small", "DRAFT", "BASELINE")
    assert study.votes_per_rater == 12
    assert study.notes == {"seed": "our choice", "display.size": "the paper"}
    assert [(p.position, p.text, p.category, p.challenge) for p in study.prompts.all()] == [
        (0, "a", "x", "y"),
        (1, "b", "", ""),
    ]
    assert [(s.position, s.key) for s in study.systems.all()] == [(0, "alpha"), (1, "beta")]
    assert study.systems.get(key="alpha").recipe["revision"].startswith("sha256:")


def test_two_systems_of_one_recipe_are_refused_and_named(tmp_path):
    same = [painted("a"), painted("b", steps=2), painted("c", label="Again")]
    with pytest.raises(CannotApply) as refused:
        draft(tmp_path, systems=same)
    assert refused.value.problems == [
        'c: "a" and "c" have the same recipe: raters would see the same image twice'
    ]
    assert not Study.objects.exists()


def test_the_same_images_of_two_folders_are_two_systems(tmp_path):
    image_folder(tmp_path / "one", systems=["alpha"])
    image_folder(tmp_path / "two", systems=["beta"])
    draft(tmp_path, systems=[imported("alpha", "one"), imported("beta", "two")])
    assert Study.objects.exists()


def test_where_the_prompts_came_from_is_kept(tmp_path):
    (tmp_path / "p.tsv").write_text("Prompt\tCategory\n" + "".join(f"p{i}\tx\n" for i in range(9)))
    image_folder(tmp_path / "images", prompts=[f"p{i}" for i in range(9)])
    study = draft(tmp_path, prompts={"file": "p.tsv", "draw": 4, "stratify": "Category"})
    source = study.prompt_source
    assert (source["file"], source["draw"], source["stratify"]) == ("p.tsv", 4, "Category")
    assert len(source["sha256"]) == 64
    assert study.prompts.count() == 4


def test_applying_the_same_file_again_changes_nothing(tmp_path):
    study = prepared(tmp_path)
    before = list(Entry.objects.order_by("pk").values_list("pk", "display"))
    again = apply_spec(load_spec(tmp_path / "small.toml"), at=NOON)
    assert again == study
    assert list(Entry.objects.order_by("pk").values_list("pk", "display")) == before


def test_a_changed_file_is_applied_to_the_draft_that_it_made(tmp_path):
    prepared(tmp_path)
    n_images = Image.objects.count()
    spec = load_spec(study_file(tmp_path, title="Another title", prompts=[*PROMPTS[1:]]))
    study = apply_spec(spec, at=NOON)
    assert study.title == "Another title"
    assert [prompt.text for prompt in study.prompts.all()] == list(PROMPTS[1:])
    assert Image.objects.count() == n_images  # what was painted stays


def test_a_draft_edited_elsewhere_is_overwritten_only_when_asked(tmp_path):
    study = draft(tmp_path)
    Prompt.objects.filter(study=study, position=0).update(text="edited in the admin")
    spec = load_spec(study_file(tmp_path, title="Another title"))
    with pytest.raises(DraftEdited, match="--replace"):
        apply_spec(spec, at=NOON)
    assert study.prompts.filter(text="edited in the admin").exists()
    apply_spec(spec, replace=True, at=NOON)
    assert not study.prompts.filter(text="edited in the admin").exists()


def test_a_draft_that_never_came_from_a_file_is_not_overwritten(tmp_path):
    Study.objects.create(slug="small", title="By hand", seed=1, display_size=64, created_at=NOON)
    with pytest.raises(DraftEdited):
        draft(tmp_path)


def test_an_opened_study_refuses_any_change(tmp_path):
    study = prepared(tmp_path)
    open_study(study=study, at=NOON)
    assert apply_spec(load_spec(tmp_path / "small.toml"), at=NOON) == study  # no change
    spec = load_spec(study_file(tmp_path, title="Another title"))
    with pytest.raises(StudyNotDraft, match="study small is open: its design stands"):
        apply_spec(spec, replace=True, at=NOON)
    study.refresh_from_db()
    assert study.title == "A small study"


def test_opening_freezes_the_rows_as_they_are(tmp_path):
    study = prepared(tmp_path)
    study.title = "Edited before opening"
    study.save()
    open_study(study=study, at=NOON)
    study.refresh_from_db()
    assert study.spec["title"] == "Edited before opening"
    assert [row["text"] for row in study.spec["prompts"]] == list(PROMPTS)
    assert study.spec["systems"][0]["recipe"] == study.systems.first().recipe
    assert study.spec_sha256 == services.digest_of(study.spec)


def test_a_twin_shares_every_image(tmp_path):
    prepared(tmp_path)
    n_images = Image.objects.count()
    twin = apply_spec(
        load_spec(tmp_path / "small.toml"), slug="small-simulated", simulated=True, at=NOON
    )
    services.prepare(twin, at=NOON)
    assert twin.simulated
    assert Image.objects.count() == n_images
    assert Entry.objects.filter(prompt__study=twin).count() == 6


# Revisions


def weights(folder, content=b"weights"):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def test_a_checkpoint_beside_the_file_is_pinned_by_its_content(tmp_path):
    folder = weights(tmp_path / "mine")
    study = draft(
        tmp_path, systems=[painted("base", checkpoint="./mine", revision=""), painted("t")]
    )
    recipe = study.systems.get(key="base").recipe
    assert recipe["checkpoint"] == str(folder)
    assert recipe["revision"] == folder_revision(folder)


def test_a_bare_name_is_looked_up_in_the_checkpoint_folders(tmp_path):
    folder = weights(tmp_path / "shelf" / "mine")
    with override_settings(CHECKPOINT_DIRS=[tmp_path / "empty", tmp_path / "shelf"]):
        systems = [painted("base", checkpoint="mine", revision=""), painted("t")]
        study = draft(tmp_path, systems=systems)
    recipe = study.systems.get(key="base").recipe
    assert (recipe["checkpoint"], recipe["revision"]) == ("mine", folder_revision(folder))


def refused(tmp_path, **changes) -> list[str]:
    with pytest.raises(CannotApply) as caught:
        draft(tmp_path, **changes)
    assert not Study.objects.exists()
    return caught.value.problems


def test_a_stated_revision_must_be_that_of_the_content(tmp_path):
    folder = weights(tmp_path / "mine")
    stated = "sha256:" + "0" * 64
    systems = [painted("base", checkpoint="./mine", revision=stated), painted("t")]
    assert refused(tmp_path, systems=systems) == [
        f"base: revision: the study file says {stated}, but {folder} holds "
        f"{folder_revision(folder)}"
    ]


def test_every_place_that_cannot_be_pinned_is_named(tmp_path):
    stated = "sha256:" + "0" * 64
    places = {"unet": "./unet", "lora": "org/lora", "vae": "./vae", "vae_revision": stated}
    unpinned = painted("hub", revision="", checkpoint="org/model", **places)
    found = refused(tmp_path, systems=[unpinned, painted("t")])
    assert [problem.partition(";")[0] for problem in found] == [
        "hub: revision: not pinned",
        f"hub: unet: there is no folder {tmp_path / 'unet'}",
        "hub: lora_revision: not pinned",
        f"hub: vae: there is no folder {tmp_path / 'vae'}",
    ]


def test_everything_that_is_missing_is_said_at_once(tmp_path):
    image_folder(tmp_path / "images", systems=["alpha"], prompts=PROMPTS[:1])
    systems = [
        imported("alpha"),
        imported("beta"),
        imported("gamma", folder="nowhere"),
        painted("hub", revision="", licence=""),
        painted("gone", checkpoint="gone", revision=""),
    ]
    found = refused(tmp_path, systems=systems)
    assert found[0] == (
        "alpha: no image (sample 0) for 2 of the study's prompts: "
        '"two blue doors"; "rain over a harbour"'
    )
    assert found[1] == 'beta: metadata.jsonl: no row has system "beta"; found alpha'
    assert found[2].startswith(f"gamma: folder: there is no folder {tmp_path / 'nowhere'}")
    assert found[3] == "hub: licence: expected the licence of its images or weights"
    assert found[4].startswith("hub: revision: not pinned; write the commit of org/model")
    assert found[5].startswith("gone: checkpoint: there is no folder gone in ")
    assert len(found) == 6


def test_a_prompt_file_that_is_missing_is_said(tmp_path):
    image_folder(tmp_path / "images")
    found = refused(tmp_path, prompts={"file": "p.tsv"})
    assert found == [f"p.tsv: there is no such file (looked for {tmp_path / 'p.tsv'})"]


def test_images_that_changed_since_are_noticed(tmp_path):
    study = draft(tmp_path)
    shutil.copy(tmp_path / "images" / "beta-0.png", tmp_path / "images" / "alpha-0.png")
    with pytest.raises(services.CannotPrepare, match=r"alpha: the images in .* are not those"):
        services.prepare(study, at=NOON)
    assert not Comparison.objects.exists()


def test_a_design_is_read_in_four_queries(tmp_path, django_assert_num_queries):
    study = draft(tmp_path)
    with django_assert_num_queries(3):
        queries.design_of(study)

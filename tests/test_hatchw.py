"""The bootstrap: when it sets up, when it does not, and what it hands on. A stand-in for uv notes what is asked of it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = """#!/bin/sh
[ "$1" != --version ] || exec echo "uv {version} (of the test)"
while [ "$1" != --from ]; do shift; done
shift 3 # --from hatch hatch
echo "$*" >> "{clone}/asked"
case "$*" in
    "env find serve") echo "{clone}/environment" ;;
    "run docs") exit 2 ;;
esac
"""
PYTHON = """#!/bin/sh
case "$*" in
    *"pip install"*) echo "$*" >> "{clone}/asked" && cp "{clone}/new/uv" "{clone}/.tools/bin/uv" ;;
    *) exec "{python}" "$@" ;;
esac
"""
ALLOCATION = """#!/bin/sh
echo "$$ $PWD $*"
exit 7
"""


class Clone:
    """A repository with the real hatchw, the files that it looks at, and a uv that only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (
            "hatch.toml",
            "pyproject.toml",
            "constraints.txt",
            "packages/a/pyproject.toml",
            "apps/b/pyproject.toml",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"# {name}\nuv==1.2\n", "utf-8")
        shutil.copy(ROOT / "hatchw", folder / "hatchw")
        self.program(".tools/bin/uv", UV.format(clone=folder, version="1.2"))
        self.program("environment/bin/allocation", ALLOCATION)
        (folder / "environment/bin/python").symlink_to(sys.executable)

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def hatchw(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "UV_DEFAULT_INDEX": "unused", **more}
        command = [self.folder / "hatchw", *words]
        return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        """What hatch was asked since the last look."""
        notes = self.folder / "asked"
        lines = notes.read_text("utf-8").splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_start_of_the_service_sets_up_and_the_second_does_not(clone: Clone) -> None:
    clone.hatchw("run", "serve")
    assert clone.asked() == ["run serve:members", "env find serve"]

    clone.hatchw("run", "serve")
    assert clone.asked() == []


@pytest.mark.parametrize(
    "name", ["hatch.toml", "constraints.txt", "packages/a/pyproject.toml", "apps/b/pyproject.toml"]
)
def test_a_changed_file_sets_the_service_up_again(clone: Clone, name: str) -> None:
    clone.hatchw("run", "serve")
    clone.asked()

    (clone.folder / name).write_text("# changed\nuv==1.2\n", "utf-8")
    clone.hatchw("run", "serve")

    assert clone.asked() == ["run serve:members", "env find serve"]


def test_a_uv_of_another_version_than_the_constraints_say_is_replaced(clone: Clone) -> None:
    clone.program("new/uv", UV.format(clone=clone.folder, version="1.2"))
    clone.program(".tools/bin/uv", UV.format(clone=clone.folder, version="1.1"))
    clone.program("shims/python3", PYTHON.format(clone=clone.folder, python=sys.executable))
    path = f"{clone.folder}/shims:{os.environ['PATH']}"

    done = clone.hatchw("run", "check", PATH=path)
    installed, *rest = clone.asked()

    assert done.returncode == 0, done.stderr
    assert installed.startswith("-m pip install")
    assert "--upgrade" in installed
    assert rest == ["run members", "run check"]
    clone.hatchw("run", "check", PATH=path)
    assert clone.asked() == ["run check"]


def test_a_lost_environment_is_set_up_again(clone: Clone) -> None:
    clone.hatchw("run", "serve")
    clone.asked()

    (clone.folder / "environment/bin/python").unlink()
    clone.hatchw("run", "serve")

    assert clone.asked() == ["run serve:members", "env find serve"]


def test_the_service_takes_the_place_of_the_bootstrap_in_the_folder_of_the_caller(clone: Clone) -> None:
    """So that a signal to the one is a signal to the other, and relative paths mean what the caller typed."""
    process = subprocess.Popen(
        [clone.folder / "hatchw", "run", "serve", "--port", "1", "--data", "a b"],
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate()

    assert output == f"{process.pid} / --port 1 --data a b\n"
    assert process.returncode == 7


@pytest.mark.contract("APP-203")
def test_the_service_on_servers_is_started_in_the_same_environment(clone: Clone) -> None:
    clone.program("tools/serve_compose.py", "import sys\nprint(sys.executable, *sys.argv[1:])\n")

    done = clone.hatchw("run", "serve-compose", "--port", "1")

    assert clone.asked() == ["run serve:members", "env find serve"]
    assert done.stdout == f"{clone.folder}/environment/bin/python --port 1\n"


def test_another_word_goes_to_hatch_with_its_arguments_and_its_exit_code(clone: Clone) -> None:
    assert clone.hatchw("run", "docs").returncode == 2
    assert clone.asked() == ["run members", "run docs"]

    assert clone.hatchw("run", "test", "-k", "x").returncode == 0
    assert clone.asked() == ["run test -k x"]


def test_editable_members_are_renewed_once_after_a_change(clone: Clone) -> None:
    clone.hatchw("run", "test")
    clone.asked()

    (clone.folder / "packages/a/pyproject.toml").write_text('version = "2"\n', "utf-8")
    clone.hatchw("run", "test")
    clone.hatchw("run", "test")

    assert clone.asked() == ["run members", "run test", "run test"]

"""The words of the workspace stand in hatch.toml and are explained in the README."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = [
    "serve",
    "test",
    "test-deep",
    "storm",
    "demo",
    "serve-compose",
    "bench",
    "check",
    "docs",
    "release-check",
    "mutants",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_a_script(word: str) -> None:
    assert word in tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))["envs"]["default"]["scripts"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_in_the_readme(word: str) -> None:
    assert f"`{word}`" in (ROOT / "README.md").read_text("utf-8")


def test_the_two_commands_open_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    assert 0 < readme.index("./hatchw run serve") < readme.index("./hatchw run test") < readme.index("\n## ")

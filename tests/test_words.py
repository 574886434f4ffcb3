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


SCRIPTS = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))["envs"]["default"]["scripts"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_a_script(word: str) -> None:
    assert word in SCRIPTS


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_in_the_readme(word: str) -> None:
    assert f"`{word}`" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("word", WORDS)
def test_the_readme_says_which_words_are_not_built_yet(word: str) -> None:
    """Such a word ends with the exit code 2, by which the continuous integration skips it."""
    row = next(
        line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith(f"| `{word}` |")
    )

    assert ("not built yet" in row) == str(SCRIPTS[word]).endswith(f"echo '{word} is not built yet' >&2 && exit 2")


def test_the_readme_explains_every_word_but_the_one_that_hatchw_uses() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("\n## The words")[2].partition("\n## ")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]

    assert sorted(rows) == sorted(word for word in SCRIPTS if word != "members")


def test_the_two_commands_open_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    assert 0 < readme.index("./hatchw run serve") < readme.index("./hatchw run test") < readme.index("\n## ")

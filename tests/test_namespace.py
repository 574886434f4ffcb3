"""`wintry` is a namespace: each distribution owns one portion of it, and none owns the whole."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PORTIONS = sorted(path.parent for path in ROOT.glob("packages/*/src/wintry/*/__init__.py"))


def test_there_are_six_portions_named_after_their_distributions() -> None:
    names = {portion.name: portion.parents[2].name for portion in PORTIONS}

    assert names == {name: f"wintry-{name}" for name in ("models", "repository", "uow", "ioc", "bus", "web")}


def test_no_distribution_puts_a_module_into_the_namespace_itself() -> None:
    """One `wintry/__init__.py` anywhere would hide every other portion."""
    assert list(ROOT.glob("packages/*/src/wintry/*.py")) == []


def test_every_portion_is_typed() -> None:
    assert [portion for portion in PORTIONS if not (portion / "py.typed").exists()] == []

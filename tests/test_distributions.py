"""The distributions fit together: their versions, ranges, files and extras."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MEMBERS = sorted(path.parent for pattern in ("packages", "apps") for path in ROOT.glob(f"{pattern}/*/pyproject.toml"))


def project(member: Path) -> dict[str, Any]:
    described: dict[str, Any] = tomllib.loads((member / "pyproject.toml").read_text("utf-8"))["project"]
    return described


def requirements(member: Path) -> list[Requirement]:
    described = project(member)
    extras = [text for texts in described.get("optional-dependencies", {}).values() for text in texts]
    return [Requirement(text) for text in [*described["dependencies"], *extras]]


VERSIONS = {project(member)["name"]: project(member)["version"] for member in MEMBERS}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_ranges_on_siblings_admit_the_present_versions(member: Path) -> None:
    """Inside the workspace the installer ignores these ranges, so that a wrong one would go unseen."""
    siblings = [requirement for requirement in requirements(member) if requirement.name in VERSIONS]

    assert [str(r) for r in siblings if not r.specifier.contains(VERSIONS[r.name])] == []


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_ranges_on_siblings_end_at_the_next_minor_version(member: Path) -> None:
    own = project(member)["name"]
    siblings = [r for r in requirements(member) if r.name in VERSIONS and r.name != own]

    assert [str(r) for r in siblings if {s.operator for s in r.specifier} != {">=", "<"}] == []


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_every_requirement_has_a_floor(member: Path) -> None:
    """Without one, resolving to the lowest versions would try the first release ever made."""
    own = project(member)["name"]
    floorless = [
        str(requirement)
        for requirement in requirements(member)
        if requirement.name not in {own, *VERSIONS} and ">=" not in {s.operator for s in requirement.specifier}
    ]

    assert floorless == []


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_every_distribution_has_its_papers(member: Path) -> None:
    assert "## Unreleased" in (member / "CHANGELOG.md").read_text("utf-8")
    assert (member / "README.md").read_text("utf-8").startswith(f"# {member.name}\n")
    assert (member / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(member)["license"] == "MIT"


def test_extras_are_the_documented_ones() -> None:
    extras = {
        name: sorted(project(member).get("optional-dependencies", {})) for member in MEMBERS for name in [member.name]
    }

    assert extras == {
        "allocation": ["demo", "nats", "rabbitmq"],
        "wintry-bus": ["journal", "otel"],
        "wintry-ioc": [],
        "wintry-models": [],
        "wintry-repository": ["mongo", "pg", "sql", "sqlite"],
        "wintry-uow": [],
        "wintry-web": ["docs", "forms", "messaging", "nats", "rabbitmq", "redis", "server"],
    }


def test_the_pins_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()

    assert [line for line in lines if "://" in line or line.startswith("-")] == []

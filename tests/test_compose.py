"""docker-compose.yml and the settings file that goes with it, and the word that starts the service on both.

There is no container engine in the tests: the file is read and held against the settings, and a stand-in for `docker`
notes what it is asked.
"""

import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "apps/allocation/src/allocation/settings/servers.toml"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVERS: dict[str, Any] = tomllib.loads(SETTINGS.read_text("utf-8"))
NOTE = """#!/bin/sh
echo "{name} $PWD $*" >> "{notes}"
{then}
"""


def address(url: str) -> SplitResult:
    return urlsplit(url)


def published(service: str) -> list[tuple[str, str, str]]:
    """The ports of a service: the address on this machine, the port there, the port inside."""
    return [tuple(entry.split(":")) for entry in SERVICES[service]["ports"]]


def text(part: Any) -> str:
    return " ".join(part) if isinstance(part, list) else str(part)


@pytest.mark.contract("APP-201")
class TestAgreement:
    """What servers.toml says is what docker-compose.yml starts."""

    def test_postgresql(self) -> None:
        url = address(SERVERS["backends"]["default"]["url"])
        given = SERVICES["postgres"]["environment"]

        assert url.scheme == "postgresql+asyncpg"
        assert (url.username, url.password) == (given["POSTGRES_USER"], given["POSTGRES_PASSWORD"])
        assert url.path == f"/{given['POSTGRES_DB']}"
        assert published("postgres") == [(url.hostname, str(url.port), "5432")]
        check = text(SERVICES["postgres"]["healthcheck"]["test"])
        assert f"--username={url.username} --dbname={url.path[1:]}" in check

    def test_mongodb_and_its_replica_set(self) -> None:
        url = address(SERVERS["backends"]["views"]["url"])
        [replica_set] = parse_qs(url.query)["replicaSet"]
        initiated = text(SERVICES["mongo"]["healthcheck"]["test"])

        assert url.scheme == "mongodb"
        assert published("mongo") == [(url.hostname, str(url.port), "27017")]
        assert f"--replSet {replica_set}" in text(SERVICES["mongo"]["command"])
        assert re.findall(r'rs\.initiate\(\{ _id: "(\w+)"', initiated) == [replica_set]
        assert re.findall(r'host: "([^"]+)"', initiated) == [url.netloc], "a client is sent on to the member's address"

    def test_redis(self) -> None:
        [url] = [address(entry["url"]) for entry in SERVERS["transporters"].values()]

        assert list(SERVERS["transporters"]) == ["redis"]
        assert url.scheme == "redis"
        assert published("redis") == [(url.hostname, str(url.port), "6379")]

    def test_the_journal_is_in_postgresql(self) -> None:
        assert SERVERS["journal"] == "default"

    @pytest.mark.parametrize(
        ("name", "default", "views", "broker"),
        [
            ("mongodb", "mongo", "mongo", "rabbitmq"),
            ("postgresql", "postgres", "postgres", "nats"),
            ("rabbitmq", "postgres", "mongo", "rabbitmq"),
        ],
    )
    def test_the_other_files_say_the_same_of_their_servers(
        self, name: str, default: str, views: str, broker: str
    ) -> None:
        said = tomllib.loads(SETTINGS.with_name(f"{name}.toml").read_text("utf-8"))
        urls = {"postgres": SERVERS["backends"]["default"]["url"], "mongo": SERVERS["backends"]["views"]["url"]}
        given = SERVICES["rabbitmq"]["environment"]
        address_of = {
            "rabbitmq": f"amqp://{given['RABBITMQ_DEFAULT_USER']}:{given['RABBITMQ_DEFAULT_PASS']}@127.0.0.1:5672/",
            "nats": "nats://127.0.0.1:4222",  # which docker-compose.yml does not start
        }

        assert said["backends"] == {"default": {"url": urls[default]}, "views": {"url": urls[views]}}
        assert said["transporters"] == {broker: {"url": address_of[broker]}}
        assert ("127.0.0.1", "5672", "5672") in published("rabbitmq")


@pytest.mark.contract("APP-204")
class TestNoLineOfTheApplication:
    """What it runs on is said in settings files, and nowhere else."""

    def test_settings_files_differ_in_backends_and_transporters_alone(self) -> None:
        files = [tomllib.loads(path.read_text("utf-8")) for path in SETTINGS.parent.glob("*.toml")]

        assert len(files) == 5
        rest = [
            {key: value for key, value in file.items() if key not in ("backends", "transporters")} for file in files
        ]
        assert rest == [{"name": "allocation", "journal": "default"}] * 5
        assert {tuple(file["backends"]) for file in files} == {("default", "views")}

    @pytest.mark.parametrize("word", ["postgres", "asyncpg", "mongo", "redis", "rabbit", "amqp", "nats"])
    def test_no_module_knows_a_server(self, word: str) -> None:
        modules = [path for path in SETTINGS.parents[1].rglob("*.py")]

        assert modules
        assert [path.name for path in modules if word in path.read_text("utf-8").lower()] == []


@pytest.mark.contract("APP-202")
class TestServers:
    """What is started keeps its data, answers here only, says when it is ready, and is the same each time."""

    def test_are_four(self) -> None:
        assert sorted(SERVICES) == ["mongo", "postgres", "rabbitmq", "redis"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_have_an_exact_version(self, name: str) -> None:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)*", SERVICES[name]["image"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_keep_their_data_in_a_volume_with_a_name(self, name: str) -> None:
        volumes = [entry.partition(":")[0] for entry in SERVICES[name]["volumes"]]

        assert name in volumes
        assert set(volumes) <= set(COMPOSE["volumes"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_say_when_they_are_ready(self, name: str) -> None:
        """`up --wait` takes a service without a health check for ready, and one that ends for failed."""
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"

    @pytest.mark.parametrize("name", SERVICES)
    def test_answer_on_this_machine_only(self, name: str) -> None:
        assert {host for host, _, _ in published(name)} == {"127.0.0.1"}

    def test_redis_writes_down_what_it_acknowledges(self) -> None:
        assert "--appendonly yes --appendfsync always" in text(SERVICES["redis"]["command"])


class Surroundings:
    """A PATH with a stand-in for `docker`, and an environment whose service only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "python").symlink_to(sys.executable)
        self.program("allocation", "exit 7")

    def program(self, name: str, then: str) -> None:
        path = self.bin / name
        path.write_text(NOTE.format(name=name, notes=self.folder / "notes", then=then), "utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def serve_compose(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.bin / "python", ROOT / "tools/serve_compose.py", *arguments],
            cwd=self.folder,
            env={**os.environ, "PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text("utf-8").splitlines() if path.exists() else []


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


@pytest.mark.contract("APP-203")
class TestServeCompose:
    def test_starts_the_servers_and_then_becomes_the_service(self, surroundings: Surroundings) -> None:
        surroundings.program("docker", "exit 0")

        done = surroundings.serve_compose("--port", "1")

        assert surroundings.notes() == [
            f"docker {ROOT} compose up -d --wait",
            f"allocation {surroundings.folder} --settings {SETTINGS} --port 1",
        ]
        assert done.returncode == 7

    def test_says_in_one_line_that_docker_is_missing(self, surroundings: Surroundings) -> None:
        done = surroundings.serve_compose()

        assert done.returncode == 1
        assert done.stderr == (
            "serve-compose: there is no `docker` on the PATH; install Docker with its plugin `compose`\n"
        )
        assert surroundings.notes() == []

    def test_does_not_start_the_service_without_its_servers(self, surroundings: Surroundings) -> None:
        surroundings.program("docker", "echo 'no space left on device' >&2; exit 14")

        done = surroundings.serve_compose()

        assert done.returncode == 1
        needs = "which needs the plugin `compose` and a running engine"
        assert done.stderr.splitlines() == [
            "no space left on device",
            f"serve-compose: `docker compose up -d --wait`, {needs}, ended with 14",
        ]
        assert len(surroundings.notes()) == 1

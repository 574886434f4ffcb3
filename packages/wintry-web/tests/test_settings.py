"""The settings: which source wins, how entries merge by name, and what a fault says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from wintry.repository.component import RepositoryComponent
from wintry.web.errors import SettingsError
from wintry.web.settings import (
    BackendOptions,
    ConnectionOptions,
    TransporterSettings,
    TransporterType,
    WinterSettings,
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, so that nothing of the surroundings is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sqlite(name: str, path: str) -> BackendOptions:
    return BackendOptions(name=name, connection_options=ConnectionOptions(url=f"sqlite:///{path}"))


@pytest.mark.contract("WEB-301")
class TestPrecedence:
    def test_the_environment_beats_dotenv_file_and_code(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = empty_folder / "settings.toml"
        file.write_text('name = "file"\njournal = "file"\ndrain_seconds = 3\n')
        (empty_folder / ".env").write_text("WINTRY_NAME=dotenv\nWINTRY_JOURNAL=dotenv\n")
        monkeypatch.setenv("WINTRY_SETTINGS", str(file))
        monkeypatch.setenv("WINTRY_NAME", "environment")

        settings = WinterSettings(name="code", journal="code", drain_seconds=9, docs=False)

        assert (settings.name, settings.journal, settings.drain_seconds, settings.docs) == (
            "environment",
            "dotenv",
            3,
            False,
        )

    def test_a_json_file_is_read_too(self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = empty_folder / "settings.json"
        file.write_text('{"name": "json"}')
        monkeypatch.setenv("WINTRY_SETTINGS", str(file))

        assert WinterSettings().name == "json"

    def test_a_file_that_is_given_is_read_instead_of_the_one_of_the_environment(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given, other = empty_folder / "given.toml", empty_folder / "other.toml"
        given.write_text('name = "given"\n')
        other.write_text('name = "other"\njournal = "other"\n')
        monkeypatch.setenv("WINTRY_SETTINGS", str(other))

        settings = WinterSettings.from_file(given, name="code")

        assert (settings.name, settings.journal) == ("given", None)
        assert WinterSettings().name == "other"

    def test_secrets_beat_the_code_and_nothing_else(self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secrets = empty_folder / "secrets"
        secrets.mkdir()
        (secrets / "wintry_name").write_text("secret")
        (secrets / "wintry_journal").write_text("secret\n")
        (secrets / "wintry_backends").write_text('[{"name": "default", "url": "sqlite:///secret.db"}]')
        (empty_folder / "settings.toml").write_text('name = "file"\n')

        settings = WinterSettings.from_file(
            empty_folder / "settings.toml",
            _secrets_dir=secrets,
            name="code",
            journal="code",
            backends=[sqlite("default", "code.db"), sqlite("views", "views.db")],
        )

        assert (settings.name, settings.journal) == ("file", "secret")
        assert [(entry.name, entry.url) for entry in settings.backends] == [
            ("default", "sqlite:///secret.db"),
            ("views", "sqlite:///views.db"),
        ]


@pytest.mark.contract("WEB-302")
class TestEntriesMergeByName:
    def test_one_key_of_one_entry_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BACKENDS__VIEWS__URL", "sqlite:///other.db")

        settings = WinterSettings(backends=[sqlite("default", "a.db"), sqlite("views", "b.db")])

        assert [(b.name, b.url) for b in settings.backends] == [
            ("default", "sqlite:///a.db"),
            ("views", "sqlite:///other.db"),
        ]

    def test_a_mapping_and_a_list_are_the_same(self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = empty_folder / "settings.toml"
        file.write_text('[backends.default]\nurl = "sqlite:///file.db"\n')
        monkeypatch.setenv("WINTRY_SETTINGS", str(file))

        assert WinterSettings(backends=[sqlite("default", "code.db")]).backends == [sqlite("default", "file.db")]

    def test_a_transporter_is_named_by_its_type(self) -> None:
        settings = WinterSettings(
            transporters=[
                TransporterSettings(
                    driver="wintry.transporters.redis", service="RedisMicroservice", transporter=TransporterType.redis
                )
            ]
        )

        assert [(t.name, t.kind, t.service) for t in settings.transporters] == [("redis", "redis", "RedisMicroservice")]

    def test_the_scheme_of_the_winning_url_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BACKENDS__DEFAULT__URL", "sqlite:///a.db")

        settings = WinterSettings(
            backends=[
                BackendOptions(
                    driver="wintry.drivers.pg",
                    connection_options=ConnectionOptions(url="postgresql+asyncpg://localhost/tests"),
                )
            ]
        )

        assert settings.backends[0].driver is None

    def test_options_of_a_backend_stand_beside_its_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BACKENDS__DEFAULT__CONNECTION_OPTIONS__POOL_SIZE", "3")
        options = ConnectionOptions(url="sqlite:///a.db", synchronous="NORMAL")  # type: ignore[call-arg]

        settings = WinterSettings(backends=[BackendOptions(connection_options=options)])

        (entry,) = RepositoryComponent().providers(settings).values()
        assert settings.backends[0].connection_options.model_dump() == {
            "url": "sqlite:///a.db",
            "pool_size": "3",
            "synchronous": "NORMAL",
        }
        assert entry()["default"].kind == "sqlite"


@pytest.mark.contract("WEB-303")
class TestFaults:
    def test_an_unknown_key_of_an_entry_names_the_nearest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BACKENDS__DEFAULT__DRIVR", "pg")

        with pytest.raises(SettingsError, match=r"backends\.0\.drivr: unknown key; did you mean 'driver'\?"):
            WinterSettings()

    def test_an_unknown_setting_names_the_nearest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_JURNAL", "default")

        assert WinterSettings().unknown_keys(["bus"]) == [
            "unknown setting 'jurnal' (as an environment variable WINTRY_JURNAL); did you mean 'journal'?"
        ]

    def test_an_unknown_limit_names_the_nearest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_LIMITS__BDY", "5")

        with pytest.raises(SettingsError, match="unknown key 'bdy'; did you mean 'body'"):
            WinterSettings()

    def test_an_option_of_a_broker_is_unknown(self) -> None:
        with pytest.raises(SettingsError, match="unknown key 'prefetch': a broker has no options beside its url"):
            WinterSettings(transporters=[{"url": "redis://localhost", "connection_options": {"prefetch": 3}}])

    def test_a_password_is_never_told(self) -> None:
        url = "postgresql://shop:geheim@localhost/shop"
        settings = WinterSettings(backends=[BackendOptions(url=url)])

        assert settings.backends[0].url == url
        assert "geheim" not in repr(settings)
        with pytest.raises(SettingsError) as caught:
            WinterSettings(backends=[{"nam": "x", "url": url}])
        assert "geheim" not in str(caught.value)

    def test_a_driver_that_does_not_speak_its_url_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"driver 'wintry\.drivers\.mongo' does not speak 'sqlite'"):
            WinterSettings(backends=[{"driver": "wintry.drivers.mongo", "url": "sqlite:///a.db"}])

    @pytest.mark.parametrize("field", ["backends", "transporters"])
    @pytest.mark.parametrize(
        "entries", [3, "pg", [3], ["pg"], {"default": "pg"}, {"default": 3}, [{"connection_options": 3}]]
    )
    def test_entries_that_are_none_are_told(self, field: str, entries: Any) -> None:
        with pytest.raises(SettingsError, match=rf"{field}(\.\w+)*: .*url"):
            WinterSettings(**{field: entries})

    def test_an_entry_of_the_environment_that_is_none_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BACKENDS__DEFAULT", "geheim")

        with pytest.raises(SettingsError, match=r"backends\.default: .* in the environment") as caught:
            WinterSettings()
        assert "geheim" not in str(caught.value)

    @pytest.mark.parametrize(("content", "reason"), [("a = = 1", "Invalid value"), (None, "No such file or directory")])
    def test_a_broken_file_is_named(
        self, empty_folder: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
    ) -> None:
        file = empty_folder / "settings.toml"
        if content is not None:
            file.write_text(content)
        monkeypatch.setenv("WINTRY_SETTINGS", str(file))

        with pytest.raises(SettingsError, match=rf"settings file .*settings\.toml: {reason}"):
            WinterSettings()


class Bus(BaseModel):
    lease: float = 30.0


@pytest.mark.contract("WEB-304")
class TestSections:
    def test_a_component_reads_its_section(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BUS__LEASE", "0.5")

        settings = WinterSettings(bus={"lease": 7})

        assert settings.section("bus", Bus).lease == 0.5
        assert settings.unknown_keys(["bus"]) == []

    def test_a_section_in_one_variable_is_json_and_others_say_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINTRY_BUS", '{"lease": 3, "grace": 4}')
        monkeypatch.setenv("WINTRY_BUS__LEASE", "0.5")

        assert WinterSettings().section("bus", Bus).lease == 0.5

    @pytest.mark.parametrize(
        ("variables", "reason"),
        [
            ({"WINTRY_BUS": "SECRET", "WINTRY_BUS__LEASE": "3"}, r"WINTRY_BUS__LEASE: another variable gives BUS"),
            (
                {"WINTRY_BUS__A": "SECRET", "WINTRY_BUS__A__B__C": "3"},
                r"WINTRY_BUS__A__B__C: another .* gives A a value",
            ),
            ({"WINTRY_BUS": '{"lease": SECRET'}, r"WINTRY_BUS: Expecting value"),
        ],
        ids=["a value and a section", "deeper", "no JSON"],
    )
    def test_variables_that_do_not_fit_together_are_told(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(SettingsError, match=f"the environment: {reason}") as caught:
            WinterSettings()

        assert "SECRET" not in str(caught.value)

    def test_a_bad_value_names_the_section(self) -> None:
        with pytest.raises(SettingsError, match=r"bus\.lease: "):
            WinterSettings(bus={"lease": "long"}).section("bus", Bus)

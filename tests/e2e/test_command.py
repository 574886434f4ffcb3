"""The command `allocation`: what its surroundings refuse is one line, whatever the service stands on."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("profile", ["embedded"], indirect=True)]


@pytest.mark.contract("APP-026")
class TestOneLineErrors:
    async def run(self, service: Any, *arguments: str, **environment: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "allocation",
            *arguments,
            cwd=service.folder,
            env={**service.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def test_a_taken_port(self, make_service: Any) -> None:
        service = make_service()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            code, said = await self.run(service, "--port", str(port))

        assert (code, said.splitlines()[-1]) == (
            1,
            f"allocation: cannot serve on 127.0.0.1:{port}: Address already in use",
        )
        assert "Traceback" not in said

    async def test_a_port_that_is_none(self, make_service: Any) -> None:
        code, said = await self.run(make_service(), ALLOCATION_PORT="eighty")

        assert (code, said.splitlines()[-1]) == (2, "allocation: error: argument --port: invalid int value: 'eighty'")

    async def test_a_folder_that_cannot_be_written(self, make_service: Any) -> None:
        service = make_service()
        (service.folder / "file").write_text("not a folder")

        code, said = await self.run(service, "--port", "0", "--data", "file/data")

        assert code == 1
        assert said.startswith("allocation: cannot write in ")
        assert len(said.splitlines()) == 1

    async def test_a_broken_settings_file(self, make_service: Any) -> None:
        service = make_service()
        (service.folder / "broken.toml").write_text("name = = 1\n")

        code, said = await self.run(service, "--port", "0", "--settings", "broken.toml")

        assert code == 1
        assert said.startswith("allocation: settings file broken.toml: ")
        assert len(said.splitlines()) == 1

    async def test_an_unknown_setting(self, make_service: Any) -> None:
        code, said = await self.run(make_service(), "--port", "0", WINTRY_JURNAL="default")

        assert code == 3
        assert "unknown setting 'jurnal'" in said
        assert "Traceback" not in said

    @pytest.mark.parametrize(
        ("backend", "url"),
        [
            ("DEFAULT", "postgresql+asyncpg://allocation:secret@127.0.0.1:{port}/x"),
            ("VIEWS", "mongodb://allocation:secret@127.0.0.1:{port}/x?serverSelectionTimeoutMS=100"),
        ],
    )
    async def test_a_database_that_is_away(self, make_service: Any, backend: str, url: str) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))  # it does not listen
            port = silent.getsockname()[1]

            code, said = await self.run(
                make_service(), "--port", "0", **{f"WINTRY_BACKENDS__{backend}__URL": url.format(port=port)}
            )

        assert code == 1
        [line] = [line for line in said.splitlines() if not line.startswith("INFO: ")]
        assert line.startswith("allocation: ")
        assert f"127.0.0.1:{port}" in line
        assert len(line) < 400
        assert "secret" not in said
        assert "Traceback" not in said

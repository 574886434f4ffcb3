"""Pick and choose, proved: each package in environments that hold nothing but what it declares.

`alone` makes two environments a package, with the package and its siblings editable. In the one are its extras, its
own test group, pytest and the servers' programs: all its tests must pass. In the other is neither extra nor test tool: every name of the
package's `__all__` must import and the example of its README must run. `wheels` builds the distributions and installs
each wheel, siblings from `dist/` and by their declared ranges, into a bare environment: import and example again,
from a folder outside of the repository; the application's wheel must serve its page, its documentation and an order,
and find its settings and the demo's data. Two lanes run at a time; a lane's output is printed when it failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from example import example

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
LANES = ROOT / ".tools" / "lanes"
UV = os.environ.get("HATCH_UV", "uv")
TEST_TOOLS = ["hypothesis>=6.130", "pytest>=9.0", "pytest-timeout>=2.4"]
SERVERS = ["--group", f"{ROOT}/pyproject.toml:servers"]  # programs alone; the clients are the package's affair
IMPORT = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
for name in module.__all__:
    getattr(module, name)
"""


class LaneFailed(Exception):
    """A command of a lane ended with another code than 0; the message is its output."""


@dataclass(frozen=True)
class Package:
    """A distribution of the workspace, as its pyproject.toml describes it."""

    folder: Path
    name: str
    extras: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def work(self) -> int:
        """How long its tests may take beside those of others: the size of their sources."""
        return sum(path.stat().st_size for path in (self.folder / "tests").rglob("*.py"))

    @property
    def module(self) -> str:
        return self.name.replace("-", ".", 1)


def packages(folder: str = "packages") -> list[Package]:
    """The distributions in a folder of the repository."""
    found = []
    for path in sorted(ROOT.glob(f"{folder}/*/pyproject.toml")):
        described = tomllib.loads(path.read_text("utf-8"))
        project = described["project"]
        extras = tuple(project.get("optional-dependencies", {}))
        found.append(Package(path.parent, project["name"], extras, tuple(described.get("dependency-groups", {}))))
    return found


SERVE = """
import importlib.resources, json, re, signal, subprocess, sys, urllib.request

files = importlib.resources.files("allocation")
for name in ("settings/embedded.toml", "settings/servers.toml", "demo/day.jsonl", "board/board.html"):
    assert files.joinpath(name).is_file(), f"the wheel lacks {name}"
command = [sys.executable, "-m", "allocation", "--port", "0", "--data", "data"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
    url = service.stdout.readline().split()[-1].rstrip("/")
    def send(path, body):
        request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).status
    try:
        assert "Stock board" in urllib.request.urlopen(url + "/", timeout=30).read().decode()
        page = urllib.request.urlopen(url + "/docs", timeout=30).read().decode()
        for path in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page):
            urllib.request.urlopen(urllib.request.urljoin(url + "/docs", path), timeout=30).read()
        assert send("/add_batch", {"ref": "b1", "sku": "TABLE", "qty": 10}) == 201
        assert send("/allocate", {"orderid": "o1", "sku": "TABLE", "qty": 3}) == 202
    finally:
        service.send_signal(signal.SIGTERM)
assert service.returncode == 0, service.returncode
"""
"""A script that serves the application and uses it."""

Lane = Callable[[Package, str], None]


class Environment:
    """A virtual environment of a lane, made anew."""

    def __init__(self, name: str, **variables: str) -> None:
        self.folder = LANES / name
        kept = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
        self.variables = {**kept, **variables}
        run([UV, "venv", "--quiet", "--clear", "--no-python-downloads", self.folder], env=self.variables)

    def install(self, *requirements: str | Path) -> None:
        run([UV, "pip", "install", "--quiet", "--python", self.folder, *requirements], env=self.variables)

    def python(self, *arguments: str | Path, cwd: Path) -> None:
        run([self.folder / "bin" / "python", *arguments], env=self.variables, cwd=cwd)


def run(command: Iterable[str | Path], *, env: dict[str, str], cwd: Path = ROOT) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        raise LaneFailed(f"$ {' '.join(words)}\n{output}(ended with {done.returncode})")


def alone_with_extras(package: Package, resolution: str) -> None:
    environment = Environment(f"{package.name}-tests", UV_RESOLUTION=resolution)
    extras = f"[{','.join(package.extras)}]" if package.extras else ""
    groups = [word for group in package.groups for word in ("--group", f"{package.folder}/pyproject.toml:{group}")]
    environment.install("--editable", f"{package.folder}{extras}", *groups, *SERVERS, *TEST_TOOLS)
    environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", package.folder / "tests", cwd=ROOT)


def alone_without_extras(package: Package, resolution: str) -> None:
    environment = Environment(f"{package.name}-bare", UV_RESOLUTION=resolution)
    environment.install("--editable", package.folder)
    import_and_example(environment, package)


def wheel(package: Package, resolution: str) -> None:
    environment = from_wheels(package, resolution)
    if package.folder.parent.name == "apps":
        environment.python("-c", SERVE, cwd=environment.folder)
    else:
        import_and_example(environment, package)


def from_wheels(package: Package, resolution: str) -> Environment:
    """An environment with a wheel in it, and with those of its siblings that it declares."""
    environment = Environment(
        f"{package.name}-wheel", UV_RESOLUTION=resolution, UV_FIND_LINKS=str(DIST), UV_NO_SOURCES="1"
    )
    # By name from dist/, and not from a cache that may hold the same version built before.
    refresh = [word for sibling in packages() for word in ("--refresh-package", sibling.name)]
    environment.install(*refresh, "--refresh-package", package.name, package.name)
    return environment


def import_and_example(environment: Environment, package: Package) -> None:
    script = environment.folder / "example.py"
    script.write_text(example(package.folder / "README.md"), "utf-8")
    environment.python("-c", IMPORT, package.module, cwd=environment.folder)
    environment.python("-W", "error", script, cwd=environment.folder)


def build() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    run([UV, "build", "--quiet", "--all-packages", "--out-dir", DIST], env=dict(os.environ))


def go(lanes: Sequence[tuple[str, Lane]], chosen: list[Package], resolution: str) -> int:
    """Run every lane for every package, two at a time, and say how each ended."""

    def timed(lane: Lane, package: Package) -> tuple[float, str]:
        start = time.monotonic()
        try:
            lane(package, resolution)
        except (LaneFailed, LookupError) as error:
            return time.monotonic() - start, str(error)
        return time.monotonic() - start, ""

    failed = 0
    with ThreadPoolExecutor(2) as pool:
        longest_first = sorted(chosen, key=lambda package: package.work, reverse=True)  # or the last one runs by itself
        running = [
            (package, name, pool.submit(timed, lane, package)) for package in longest_first for name, lane in lanes
        ]
        for package, name, future in running:
            seconds, fault = future.result()
            print(f"{'FAILED' if fault else 'ok':<7}{package.name:<20}{name:<16}{seconds:6.1f} s", flush=True)
            if fault:
                failed += 1
                print(fault, flush=True)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="lanes", description="Prove that each package stands by itself.")
    parser.add_argument("lane", choices=["alone", "wheels"])
    parser.add_argument("package", nargs="*", help="short names, such as models; all by default")
    parser.add_argument("--resolution", choices=["highest", "lowest-direct"], default="highest")
    parser.add_argument("--python", default=sys.executable, metavar="VERSION", help="this one's, unless given")
    options = parser.parse_args()
    found = packages() + (packages("apps") if options.lane == "wheels" else [])
    chosen = [p for p in found if not options.package or p.name.removeprefix("wintry-") in options.package]
    os.environ["UV_PYTHON"] = options.python
    if options.resolution != "highest":
        os.environ.pop("UV_CONSTRAINT", None)  # the pins are the newest versions
    if options.lane == "wheels":
        try:
            build()
        except LaneFailed as error:
            print(error)
            return 1
        return go([("wheel", wheel)], chosen, options.resolution)
    lanes = [("with extras", alone_with_extras), ("without extras", alone_without_extras)]
    return go(lanes, chosen, options.resolution)


if __name__ == "__main__":
    sys.exit(main())

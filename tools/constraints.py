"""Pin everything that the environments install: write constraints.txt anew.

All extras and test groups of every package and the groups of the root are resolved together, for every platform and
every Python that the packages admit, so that two clones are alike. The packages of the workspace are left out. No
index is named in the file: it serves whoever has another one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "constraints.txt"
HEADER = "# Pins of all environments, made by `./hatchw run constraints`.\n"


def main() -> int:
    members = sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("apps/*/pyproject.toml")])
    root = ROOT / "pyproject.toml"
    command = [os.environ.get("HATCH_UV", "uv"), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--all-extras", "--no-header", "--no-annotate", "--upgrade"]
    for group in tomllib.loads(root.read_text("utf-8"))["dependency-groups"]:
        command += ["--group", f"{root}:{group}"]
    for member in members:
        described = tomllib.loads(member.read_text("utf-8"))
        command += [str(member), "--no-emit-package", described["project"]["name"]]
        command += ["--group", f"{member}:test"] if "test" in described.get("dependency-groups", {}) else []
    environment = {name: value for name, value in os.environ.items() if name != "UV_CONSTRAINT"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        TARGET.write_text(HEADER + done.stdout, "utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

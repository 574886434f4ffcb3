"""The example of a README: the first ```python block, as a script of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def example(readme: Path) -> str:
    """The code of the first ```python block of `readme`.

    Raises:
        LookupError: the page has no such block.
    """
    match = BLOCK.search(readme.read_text("utf-8"))
    if match is None:
        raise LookupError(f"{readme} has no ```python block: every package shows one example that runs")
    return match["code"]


if __name__ == "__main__":
    print(example(Path(sys.argv[1])), end="")

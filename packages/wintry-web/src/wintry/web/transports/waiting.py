"""How long to wait for a broker that is away: longer after each failure, and not everybody at the same time."""

from __future__ import annotations

import asyncio
import logging
from random import random
from typing import Final

logger = logging.getLogger("wintry.web")

LONGEST_WAIT: Final = 5.0


async def wait_before(broker: str, failures: int, doing: str, error: Exception) -> None:
    """Wait before the next attempt at `doing`, which has failed so often; `broker` is its kind, for the log."""
    pause = min(LONGEST_WAIT, 0.05 * 2.0 ** min(failures, 20)) * (0.5 + random() / 2)
    why = f"{type(error).__name__}: {error}"
    logger.warning("%s: %s failed with %s; again in %.2g s", broker, doing, why, pause)
    await asyncio.sleep(pause)

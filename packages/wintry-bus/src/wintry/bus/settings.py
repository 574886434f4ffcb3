"""The section `bus` of an application's settings: the bounds of its runtime, and how long what is done is kept."""

from __future__ import annotations

from dataclasses import fields

from pydantic import BaseModel, ConfigDict, Field

from .runtime import Limits

DAY = 86_400.0
DEFAULTS = Limits()


class BusSettings(BaseModel):
    """`[bus]` in a settings file, `WINTRY_BUS__…` in the environment. All times are seconds.

    The first eight are the `Limits` of the runtime. `retention`: of deliveries that are done and of messages in a
    database's queue. `inbox_retention`: how long a message that was handled is recognised. `abandoned_after`: when a
    group that nobody listens for is forgotten.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inline_budget: float = Field(default=DEFAULTS.inline_budget, ge=0)
    concurrency: int = Field(default=DEFAULTS.concurrency, ge=1)
    backlog: int = Field(default=DEFAULTS.backlog, ge=1)
    lease: float = Field(default=DEFAULTS.lease, gt=0)
    poll_min: float = Field(default=DEFAULTS.poll_min, gt=0)
    poll_max: float = Field(default=DEFAULTS.poll_max, gt=0)
    send_timeout: float = Field(default=DEFAULTS.send_timeout, gt=0)
    oldest: float = Field(default=DEFAULTS.oldest, gt=0)
    retention: float = Field(default=DAY, gt=0)
    inbox_retention: float = Field(default=7 * DAY, gt=0)
    abandoned_after: float = Field(default=7 * DAY, gt=0)

    @property
    def limits(self) -> Limits:
        """The bounds as a runtime takes them."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

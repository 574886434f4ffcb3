"""Messages and the envelope that they travel in.

A message is a frozen pydantic model that ignores fields it does not know, so that a producer may add some. What the
bus knows about one message (ids, time, attempt) stands on the `Envelope` and never in the model: a field called `id`
is the user's own. The class keywords `key`, `version` and `alias` make the class's `Contract`; a key is inherited by
subclasses, alias and version are not.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.main import IncEx

from .contracts import Contract
from .errors import Fault, nearest, report


class Message(BaseModel):
    """The base of commands and events; subclass one of those.

    Class keywords: `key`, the field whose value orders messages (deliveries of one key run one after another);
    `version`, a positive integer; `alias`, the name under which the message is stored and sent (the class's name).
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    __contract__: ClassVar[Contract] = Contract("Message")

    def __init_subclass__(
        cls, *, key: str | None = None, version: int = 1, alias: str | None = None, **config: Any
    ) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, key: str | None = None, version: int = 1, alias: str | None = None, **config: Any
    ) -> None:
        super().__pydantic_init_subclass__(**config)
        faults = []
        place = f"{cls.__module__}.{cls.__qualname__}"
        if key is not None and key not in cls.model_fields:
            faults.append(Fault(place, f"key={key!r} is not one of its fields", nearest(key, [*cls.model_fields])))
            key = None
        if version < 1:
            faults.append(Fault(place, f"version={version} is not positive", "the first version is 1"))
        if alias is not None and not alias.strip():
            faults.append(Fault(place, "alias is empty", "leave it out to use the class's name"))
        cls.__contract__ = Contract(alias or cls.__name__, max(version, 1), key or cls.__contract__.key)
        report(faults)

    def dict(
        self,
        *,
        include: IncEx | None = None,
        exclude: IncEx | None = None,
        by_alias: bool = False,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> builtins.dict[str, Any]:
        """The fields as a dictionary: `model_dump` under its older name."""
        return self.model_dump(
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_unset=exclude_unset,
            exclude_defaults=exclude_defaults,
            exclude_none=exclude_none,
        )


class Command(Message):
    """Something that is to be done. Exactly one handler of a queue does it."""


class Event(Message):
    """Something that has happened. Any number of handlers of a queue are told."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the bus knows about the message that is being handled.

    `id` is stable over retries, `correlation_id` is shared by everything that one entry caused, `causation_id` is the
    id of the message whose handler made this one (None for an entry), `attempt` counts from 1, `time` (UTC) is when
    the message was made, `handler` names who handles it and `traceparent` is the W3C trace context that came with it.
    """

    message: Any
    id: str
    correlation_id: str
    causation_id: str | None
    attempt: int
    time: datetime
    handler: str
    traceparent: str | None = None

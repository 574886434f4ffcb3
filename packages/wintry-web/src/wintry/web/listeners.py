"""From microservice classes to listeners: what happens once, when an application starts.

Each `@on` of a `@microservice` class becomes a `ListenerSpec`: the channel, the transporter that it is heard on, the
type that its bodies must fit, and the method. What cannot work is reported with the other faults of definition.
Running them is the part of `transports`, which needs wintry-bus; this module does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from .errors import DefinitionError, report
from .marks import CHANNELS, MICROSERVICE, ChannelMark
from .params import resolved_hints
from .settings import TransporterSettings, nearest

MOST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """One `@on`: `function` is called with an instance of `cls` and what `decode` makes of a body.

    `transporter` names the entry of the settings; None is the default one. `decode` raises `ValueError` with the
    first reasons why a body does not fit.
    """

    id: str
    cls: type[Any]
    function: Callable[..., Any]
    channel: str
    broadcast: bool
    transporter: str | None
    decode: Callable[[bytes], Any]

    @property
    def threaded(self) -> bool:
        """Whether the method is not a coroutine and runs in a thread."""
        return not inspect.iscoroutinefunction(self.function)


@dataclass(frozen=True, slots=True)
class Listeners:
    """All listeners of an application; the container provides them to the component that runs them."""

    specs: tuple[ListenerSpec, ...]


def compile_listeners(classes: Iterable[type[Any]], transporters: Sequence[TransporterSettings]) -> Listeners:
    """The listeners of these classes; faults are reported, and what has one is left out."""
    return Listeners(tuple(spec for cls in classes for spec in specs_of(cls, transporters)))


def specs_of(cls: type[Any], transporters: Sequence[TransporterSettings]) -> Iterator[ListenerSpec]:
    place = f"{cls.__module__}.{cls.__qualname__}"
    name = vars(cls)[MICROSERVICE].transporter
    names = [entry.name for entry in transporters]
    hint = f"the settings have {', '.join(names)}" if names else "the settings have none"
    if name is not None and name not in names:
        report(DefinitionError(place, f"there is no transporter {name!r}{nearest(name, names)}", hint))
        return
    if name is None and len(names) > 1 and "default" not in names:
        reason = "which transporter is meant is not clear: none is named 'default'"
        report(DefinitionError(place, reason, f"name one as in @microservice({names[0]!r}); {hint}"))
        return
    for attribute in dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)):
        function = inspect.getattr_static(cls, attribute)
        marks: tuple[ChannelMark, ...] = getattr(function, CHANNELS, ())
        if marks and (decode := decoder(function)) is not None:
            for mark in marks:
                listener = f"{place}.{attribute}" if len(marks) == 1 else f"{place}.{attribute}@{mark.channel}"
                yield ListenerSpec(listener, cls, function, mark.channel, mark.broadcast, name, decode)


def decoder(function: Callable[..., Any]) -> Callable[[bytes], Any] | None:
    """What makes the method's argument of a body, None after reporting why there is no such thing."""
    place = f"{function.__module__}.{function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())[1:]
    required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    if len(required) != 1:
        report(DefinitionError(place, f"it takes {len(required)} arguments", "a listener takes one: the message"))
        return None
    name = required[0].name
    hints = resolved_hints(function, place)
    if hints is None:
        return None
    if name not in hints:
        report(DefinitionError(place, f"{name} has no annotation", f"say what a body must fit: {name}: MyMessage"))
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hints[name])
    except PydanticSchemaGenerationError as error:
        report(DefinitionError(place, f"the type of {name} cannot be read: {str(error).splitlines()[0]}"))
        return None

    def decode(body: bytes) -> Any:
        try:
            return adapter.validate_json(body)
        except ValidationError as error:
            raise ValueError(summary(error)) from None

    return decode


def summary(error: ValidationError) -> str:
    """The first reasons, and how many there are; never the values."""
    reasons = [
        f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)[:MOST_ERRORS]
    ]
    more = error.error_count() - len(reasons)
    return "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")

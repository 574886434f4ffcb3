"""The contract of a message: what of it travels and is stored.

A stored or sent message names its contract by an alias and an integer version, never by an import path: classes may
move between modules. The body is JSON by field names. A body of an older version is lifted step by step by the
functions marked with `upcast`, each from one version to the next, before it is validated; a newer version than the
class has, a missing step or a body that does not validate is `Undecodable`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from .errors import DefinitionError, Fault, Undecodable

if TYPE_CHECKING:
    from .messages import Message

Body = dict[str, Any]
Upcast = Callable[[Body], Body]
U = TypeVar("U", bound=Upcast)


@dataclass(slots=True)
class Contract:
    """Alias, version and ordering key of one message class, and the steps that lift older bodies to it."""

    alias: str
    version: int = 1
    key: str | None = None
    upcasts: dict[int, Upcast] = field(default_factory=dict)


def upcast(message: type[Message], *, from_version: int) -> Callable[[U], U]:
    """Mark a function that turns a body of `from_version` into one of the next version.

    The function is given the decoded JSON object and returns the lifted one.

    Raises:
        DefinitionError: `from_version` is not below the version of the class, or has such a function already.
    """
    contract = message.__contract__
    place = f"upcast({message.__name__}, from_version={from_version})"
    if not 1 <= from_version < contract.version:
        known = f"{message.__name__} is version {contract.version}"
        raise DefinitionError([Fault(place, "there is nothing to lift to", known)])
    if from_version in contract.upcasts:
        raise DefinitionError([Fault(place, "this version is lifted already", contract.upcasts[from_version].__name__)])

    def mark(function: U) -> U:
        contract.upcasts[from_version] = function
        return function

    return mark


def encode(message: Message) -> bytes:
    """The body of a message: JSON by field names."""
    return message.model_dump_json(by_alias=False, round_trip=True).encode()


def decode(message: type[Message], version: int, body: bytes) -> Message:
    """The message that a stored body holds.

    Raises:
        Undecodable: the body does not fit, or its version cannot be lifted to that of the class.
    """
    contract = message.__contract__
    try:
        if version != contract.version:
            body = _lift(contract, version, body)
        return message.model_validate_json(body, by_alias=False, by_name=True)
    except ValidationError as error:
        raise Undecodable(f"{contract.alias} version {version}: {error}") from error


def _lift(contract: Contract, version: int, body: bytes) -> bytes:
    if version > contract.version:
        raise Undecodable(
            f"{contract.alias}: version {version} is newer than {contract.version}, the newest known here"
        )
    try:
        lifted = json.loads(body)
    except ValueError as error:
        raise Undecodable(f"{contract.alias} version {version}: the body is not JSON: {error}") from error
    for step in range(version, contract.version):
        function = contract.upcasts.get(step)
        if function is None:
            raise Undecodable(f"{contract.alias}: nothing lifts version {step}: mark a function with upcast(…)")
        lifted = function(lifted)
    return json.dumps(lifted).encode()

"""What a callable asks for.

`dependencies` reads the parameters of a factory, or of the constructor of a class, as `Dependency` records: the key
to look up, whether all providers are wanted (`list[T]`), and whether it may be left out. Hints are read when the
container is compiled, not where the mark stands, so that forward references and import cycles are settled by then.
Each hint is resolved by itself in the module of the class that wrote it; one that cannot be resolved becomes a fault
that names module, class and field, and does not hide the others.
"""

from __future__ import annotations

import difflib
import inspect
import sys
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from .errors import Fault

_iterators = (Iterator, Generator, Iterable, AsyncIterator, AsyncGenerator, AsyncIterable)
EMPTY: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Named:
    """Chooses among the providers of one type: `Annotated[Redis, Named("cache")]`."""

    name: str


@dataclass(frozen=True, slots=True)
class Dependency:
    """One parameter that the container fills.

    `key` is what is asked for, `element` the T of a `list[T]`, `default` the value that stands if nothing provides
    the key (`EMPTY`: there is none), `place` the dotted name that messages use.
    """

    name: str
    key: Any
    place: str
    element: Any = None
    default: Any = EMPTY
    positional: bool = False

    @property
    def optional(self) -> bool:
        """Whether the parameter can do without a provider."""
        return self.default is not EMPTY


@dataclass(frozen=True, slots=True)
class Hint:
    """One annotation before it is resolved: where it stands, and the namespace that it is resolved in."""

    name: str
    annotation: Any
    place: str
    namespace: dict[str, Any]
    default: Any = EMPTY
    positional: bool = False


def dotted(value: Any) -> str:
    """The name of a type, function or key in messages: `tuto.services.MessageBus`."""
    if get_origin(value) is Annotated:
        base, *marks = get_args(value)
        names = [mark.name for mark in marks if isinstance(mark, Named)]
        return f'{dotted(base)} named "{names[0]}"' if names else dotted(base)
    if get_origin(value) is not None:
        return str(value)
    name = getattr(value, "__qualname__", None)
    if name is None:
        return repr(value)
    module = getattr(value, "__module__", None)
    return name if module in (None, "builtins") else f"{module}.{name}"


def short(value: Any) -> str:
    """The last part of the name of a key: `MessageBus`."""
    if get_origin(value) is Annotated:
        base, *marks = get_args(value)
        names = [mark.name for mark in marks if isinstance(mark, Named)]
        return "_".join([short(base), *names])
    origin = get_origin(value)
    if origin is not None:
        return "_".join([short(origin), *(short(part) for part in get_args(value))])
    return str(getattr(value, "__name__", None) or value)


def key_of(annotation: Any, name: str | None = None) -> Any:
    """The key that an annotation stands for: `Annotated` is kept only for the sake of a `Named`."""
    if get_origin(annotation) is Annotated:
        base, *marks = get_args(annotation)
        for mark in marks:
            if isinstance(mark, Named):
                return Annotated[base, mark]
        annotation = base
    return annotation if name is None else Annotated[annotation, Named(name)]


def unoptional(annotation: Any) -> tuple[Any, bool]:
    """`T | None` → `(T, True)`; anything else → `(annotation, False)`."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not types.NoneType]
        if len(rest) == 1 and len(rest) < len(get_args(annotation)):
            return rest[0], True
    return annotation, False


def resolve(hint: Hint) -> Any:
    """The annotation with its forward references resolved; raises what the evaluation raises."""
    holder = types.SimpleNamespace(__annotations__={hint.name: hint.annotation})
    # typing reads any object with __annotations__; its signature names only the common ones
    return get_type_hints(typing.cast(Any, holder), hint.namespace, {}, include_extras=True)[hint.name]


def dependency(hint: Hint) -> Dependency | Fault:
    """The dependency that a hint stands for, or why it cannot be known."""
    if hint.annotation is EMPTY:
        return Fault(hint.place, "has no annotation", hint="annotate it with the type to inject")
    try:
        annotation = resolve(hint)
    except Exception as error:  # noqa: BLE001 - an annotation is an expression, and may raise anything
        return Fault(
            hint.place,
            f"the hint {hint.annotation!r} cannot be resolved: {error}",
            hint=_advice(error, hint.namespace),
        )
    wanted, nullable = unoptional(annotation)
    default = None if nullable and hint.default is EMPTY else hint.default
    key = key_of(wanted)
    element = get_args(key)[0] if get_origin(key) is list and get_args(key) else None
    return Dependency(hint.name, key, hint.place, element, default, hint.positional)


def _advice(error: Exception, namespace: dict[str, Any]) -> str:
    known = [name for name, value in namespace.items() if isinstance(value, type)]
    close = difflib.get_close_matches(str(getattr(error, "name", "")), known, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    return "import the name where the module can see it at run time, not only under TYPE_CHECKING"


def namespace_of(owner: Any) -> dict[str, Any]:
    """The globals that the annotations of a class or function are resolved in."""
    function = inspect.unwrap(owner) if callable(owner) and not isinstance(owner, type) else owner
    found = getattr(function, "__globals__", None)
    if found is not None:
        return typing.cast(dict[str, Any], found)
    module = sys.modules.get(getattr(owner, "__module__", ""))
    return vars(module) if module is not None else {}


def parameters(function: Callable[..., Any], place: str, *, bound: bool = False) -> list[Hint]:
    """The parameters of a function as hints; `bound` skips the first one. `*args` and `**kwargs` are left out."""
    found = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    namespace = namespace_of(function)
    named = [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return [
        Hint(
            each.name,
            each.annotation,
            f"{place}.{each.name}",
            namespace,
            each.default,
            each.kind is each.POSITIONAL_ONLY,
        )
        for each in named
        # nothing can be looked up for a defaulted parameter without annotation: its default stands
        if not (each.annotation is EMPTY and each.default is not EMPTY)
    ]


def returned(function: Callable[..., Any]) -> Any:
    """What a factory function provides: its return annotation, for a generator the element.

    `EMPTY` if there is no annotation. Raises what the evaluation of the annotation raises.
    """
    annotation = inspect.signature(function).return_annotation
    if annotation is EMPTY:
        return EMPTY
    found = resolve(Hint("return", annotation, dotted(function), namespace_of(function)))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return get_args(found)[0] if get_origin(found) in _iterators and get_args(found) else EMPTY
    return found

"""The synthesised constructor: annotated fields become keyword-only parameters.

`injectable` looks at the classes of the MRO before the nearest hand-written `__init__` (that of a plain base, a
dataclass, another library: anything that was not made here). Their annotated fields become parameters, and the
hand-written one is called first with what its signature names. So each constructor calls exactly one other, however
many synthesised ones lie between. The code is emitted as a function of the class's own module, as dataclasses do.

The hints of a field are not resolved here: they may name classes that do not exist yet. `constructor_hints` tells
`dependencies` later which class wrote which field.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_origin

from .hints import EMPTY, Hint, dotted, namespace_of, parameters
from .source import Source, snake

C = TypeVar("C", bound=type[Any])
_textual_classvar = re.compile(r"^\s*(\w+\s*\.\s*)*ClassVar\b")
_ATTRIBUTE = "__wintry_constructor__"


class _Unset:
    """Stands for a defaulted field that the caller did not give."""

    def __repr__(self) -> str:
        return "<the class's default>"


_UNSET = _Unset()


@dataclass(frozen=True, slots=True)
class Field:
    """An annotated attribute, and the class that wrote it."""

    name: str
    annotation: Any
    owner: type[Any]
    defaulted: bool


@dataclass(frozen=True, slots=True)
class Constructor:
    """What a synthesised `__init__` is made of: the fields that are injected, the base's parameters before them."""

    fields: tuple[Field, ...]
    base: tuple[Hint, ...]


@dataclass_transform(kw_only_default=True)
def injectable(cls: C) -> C:
    """Give a class the keyword-only constructor that its annotated fields describe, and return it.

    A class with an `__init__` of its own keeps it, and so does one whose metaclass makes constructors (a pydantic
    model); a class that adds no field keeps the inherited one. Marking a class twice changes nothing. Nothing is
    registered.
    """
    if "__init__" in vars(cls) or _makes_constructors(type(cls)):
        return cls
    base = _written_init(cls)
    fields = _fields(cls, base)
    if not any(field.owner is cls for field in fields) and not _joins(cls, fields):
        return cls
    type.__setattr__(cls, "__init__", _synthesise(cls, fields, base))
    return cls


def constructor_hints(cls: type[Any]) -> list[Hint]:
    """What the constructor of a class asks the container for."""
    init: Any = cls.__init__
    made: Constructor | None = getattr(init, _ATTRIBUTE, None)
    place = dotted(cls)
    if made is None:
        if init is object.__init__ or not _hand_written(init):
            return []
        return parameters(init, place, bound=True)
    own = [
        Hint(each.name, each.annotation, f"{place}.{each.name}", namespace_of(each.owner))
        for each in made.fields
        if not each.defaulted
    ]
    return [*made.base, *own]


def _hand_written(init: Any) -> bool:
    return inspect.isfunction(init) and not hasattr(init, _ATTRIBUTE) and init.__module__ != "typing"


def _makes_constructors(metaclass: type) -> bool:
    """Whether the metaclass turns fields into a constructor by itself, as that of pydantic does."""
    return hasattr(metaclass, "__dataclass_transform__")


def _written_init(cls: type[Any]) -> type[Any] | None:
    """The nearest base whose `__init__` somebody wrote."""
    return next((each for each in cls.__mro__[1:] if _hand_written(vars(each).get("__init__"))), None)


def _fields(cls: type[Any], base: type[Any] | None) -> list[Field]:
    """The annotated fields of all classes that the base's constructor knows nothing of, ancestors first."""
    known = base.__mro__ if base is not None else ()
    fields: dict[str, Field] = {}
    for owner in reversed(cls.__mro__):
        if owner in known or getattr(owner, "_is_protocol", False):
            continue
        for name, annotation in inspect.get_annotations(owner).items():
            if not _is_classvar(annotation):
                fields.pop(name, None)
                value = vars(owner).get(name, EMPTY)
                # what __slots__ puts there under the field's name is no default
                defaulted = value is not EMPTY and not inspect.ismemberdescriptor(value)
                fields[name] = Field(name, annotation, owner, defaulted)
    return list(fields.values())


def _is_classvar(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _textual_classvar.match(annotation) is not None
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _joins(cls: type[Any], fields: list[Field]) -> bool:
    """Whether the inherited constructor leaves out a field: one of an unmarked base, or of a second base."""
    made: Constructor | None = getattr(cls.__init__, _ATTRIBUTE, None)
    covered = {field.name for field in made.fields} if made is not None else set[str]()
    return any(not field.defaulted and field.name not in covered for field in fields)


def _synthesise(cls: type[Any], fields: list[Field], base: type[Any] | None) -> Callable[..., None]:
    taken = list(inspect.signature(base.__init__).parameters.values())[1:] if base is not None else []
    rest = any(each.kind is each.VAR_KEYWORD for each in taken)
    by_name = {each.name: each for each in fields}
    named = [
        # a field of the same name without a default makes the base's parameter a required one
        each.replace(default=EMPTY) if each.name in by_name and not by_name[each.name].defaulted else each
        for each in taken
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    own = [each for each in fields if each.name not in {parameter.name for parameter in named}]
    source = Source({}, reserved=("self", "_self", *(each.name for each in taken), *by_name))
    self_name = "_self" if "self" in by_name else "self"
    head, call = _base_call(source, named, self_name)
    signature = _signature(self_name, head, [_keyword(source, each) for each in own])
    with source.block(f"def __init__({signature}):"):
        if base is not None:
            if rest:
                call += [f"{each.name}={each.name}" for each in own if not each.defaulted]
            source.line(f"{source.constant(base.__init__, f'{snake(base.__name__)}_init')}({', '.join(call)})")
        for each in own:
            if each.defaulted:
                with source.block(f"if {each.name} is not {source.constant(_UNSET, 'unset')}:"):
                    source.line(f"{self_name}.{each.name} = {each.name}")
            elif base is None or not rest:
                source.line(f"{self_name}.{each.name} = {each.name}")
    init = source.function("__init__", f"constructor of {dotted(cls)}")
    return _finish(cls, init, fields, base, named)


def _signature(self_name: str, head: list[_Parameter], own: list[str]) -> str:
    """The base's positional parameters, then all keyword-only ones."""
    before = [each.text for each in head if not each.keyword_only]
    positional_only = sum(each.positional_only for each in head)
    if positional_only:
        before.insert(positional_only, "/")
    keywords = [*own, *(each.text for each in head if each.keyword_only)]
    return ", ".join([self_name, *before, *(["*"] if keywords else []), *keywords])


@dataclass(frozen=True, slots=True)
class _Parameter:
    text: str
    keyword_only: bool
    positional_only: bool


def _base_call(source: Source, named: list[inspect.Parameter], self_name: str) -> tuple[list[_Parameter], list[str]]:
    """The base's parameters as parameters of ours, and the arguments of the call that passes them on."""
    head: list[_Parameter] = []
    call = [self_name]
    for each in named:
        default = "" if each.default is EMPTY else f"={source.constant(each.default, f'default_{each.name}')}"
        keyword_only = each.kind is each.KEYWORD_ONLY or bool(default)
        positional_only = each.kind is each.POSITIONAL_ONLY
        head.append(_Parameter(each.name + default, keyword_only and not positional_only, positional_only))
        call.append(each.name if positional_only else f"{each.name}={each.name}")
    return head, call


def _keyword(source: Source, field: Field) -> str:
    return f"{field.name}={source.constant(_UNSET, 'unset')}" if field.defaulted else field.name


def _finish(
    cls: type[Any],
    init: Callable[..., None],
    fields: list[Field],
    base: type[Any] | None,
    named: list[inspect.Parameter],
) -> Callable[..., None]:
    """Dress the compiled function: names, annotations, and the record that the container reads."""
    place = dotted(cls)
    by_name = {each.name: each for each in fields}
    injected = tuple(each for each in fields if each.name not in {parameter.name for parameter in named})
    defaults = {each.name: each.default for each in named}
    written = parameters(base.__init__, place, bound=True) if base is not None else []
    hints = tuple(
        Hint(
            each.name,
            by_name[each.name].annotation,
            each.place,
            namespace_of(by_name[each.name].owner),
            defaults[each.name],
            each.positional,
        )
        if each.name in by_name
        else each
        for each in written
    )
    annotations = {each.name: each.annotation for each in hints}
    annotations.update({each.name: each.annotation for each in injected})
    init.__annotations__ = {**annotations, "return": None}
    init.__module__ = cls.__module__
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    setattr(init, _ATTRIBUTE, Constructor(injected, hints))
    return init

"""`Model`: what makes a class body a domain class.

Defining a subclass makes it a keyword-only dataclass, in place; nothing of it is wrapped or instrumented. The class gets
its `ModelInfo` as a side attribute and, unless it defines them itself, equality and hash: by root class and id where it
has an identity, field by field where it is a value. Its hints are resolved at once where that is possible, so that an
unsupported type is found where it was written; hints that name something still to come wait for first use.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, dataclass_transform

from wintry.models import pydantic
from wintry.models.errors import DefinitionError, UnresolvedName, nearest, postpone, report
from wintry.models.fields import Field, Id, RequiredId
from wintry.models.info import ModelInfo, declared, info, infos_of, options_of
from wintry.models.source import Source

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(RequiredId, Id, Field))
class Model:
    """Base of domain classes. A subclass is a keyword-only dataclass; `frozen=True` makes a value object immutable.

    A Model with an identity (`RequiredId`, `Id`) is an entity: equal to another of its root class with the same id. One
    without is a value: equal to another of its class with equal fields, and hashable if it is frozen. The constructor
    validates nothing; `build` and `validate` do.
    """

    __wintry_info__: ClassVar[ModelInfo]

    def __init_subclass__(cls, *, frozen: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        frame = sys._getframe(1) if "<locals>" in cls.__qualname__ else None
        own = cls.__wintry_info__ = ModelInfo(cls, frozen=frozen, frame=frame)
        try:
            _define(cls, own)
        except DefinitionError as fault:
            own.fault = fault
            report(fault)
        own.defined = True

    @classmethod
    def build(cls, source: object, *, strict: bool = False, forbid_extra: bool = False) -> Self:
        """A validated object from a mapping, JSON, or the attributes of any object, nested to any depth.

        Values are coerced as pydantic does unless `strict`. Unknown keys are ignored unless `forbid_extra`. Objects in
        the source are copied, never shared. Raises pydantic's `ValidationError` with the path of every bad value.
        """
        built: Self = info(cls).codec.build(source, strict, forbid_extra)
        return built

    @classmethod
    def build_many(cls, sources: Iterable[object], *, strict: bool = False, forbid_extra: bool = False) -> list[Self]:
        """`build` for each of the sources."""
        return info(cls).codec.build_many(sources, strict, forbid_extra)

    def to_dict(
        self,
        *,
        exclude: set[str] | Mapping[str, Any] | None = None,
        mode: Literal["python", "json"] = "python",
    ) -> dict[str, Any]:
        """The stored fields as plain dicts and lists; `mode="json"` also makes the leaves what JSON has.

        `exclude` names fields to leave out, nested ones as in `{"batches": {"__all__": {"eta"}}}`.
        """
        return info(type(self)).codec.to_dict(self, mode, exclude)

    def to_json(self, *, exclude: set[str] | Mapping[str, Any] | None = None) -> str:
        """The stored fields as JSON text."""
        return info(type(self)).codec.to_json(self, exclude)

    def validate(self) -> None:
        """Whether every stored value, at any depth, has the type and keeps the constraints of its field.

        Raises pydantic's `ValidationError`. Nothing is coerced or changed.
        """
        info(type(self)).codec.validate(self)

    def copy(self, **changes: Any) -> Self:
        """A deep copy of what is stored, with other values for the fields named. Transient fields start anew.

        Raises `TypeError` for a name that is no stored field.
        """
        own = info(type(self))
        for name in changes:
            if name not in own.by_name:
                hint = nearest(name, own.by_name)
                raise TypeError(f"{own.name} has no stored field {name!r}" + (f"; {hint}" if hint else ""))
        duplicate: Self = own.copy(self)
        if not changes:
            return duplicate
        return own.restore(*(changes.get(name, getattr(duplicate, name)) for name in own.by_name))  # type: ignore[no-any-return]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return pydantic.schema(info(cls), "field")


def _define(cls: type[Model], own: ModelInfo) -> None:
    """Make `cls` a dataclass with the equality of a Model. Raises `DefinitionError`."""
    _check_body(cls, own.place)
    documented = cls.__doc__
    cls.__doc__ = documented or cls.__name__  # spares the dataclass from rendering a signature into it
    try:
        dataclasses.dataclass(kw_only=True, eq=False, match_args=False, frozen=own.frozen)(cls)
    except (TypeError, ValueError) as error:
        raise DefinitionError(own.place, str(error)) from None
    finally:
        cls.__doc__ = documented
    _check_init_only(cls, own)
    _check_identity(cls, own)
    _add_equality(cls, own)
    try:
        info(cls)
    except UnresolvedName:
        postpone(lambda: info(cls))


def _check_body(cls: type[Model], place: str) -> None:
    """What a dataclass would refuse with words of its own."""
    annotations = inspect.get_annotations(cls)
    for name, value in vars(cls).items():
        annotated = name in annotations
        if isinstance(value, dataclasses.Field) and not annotated:
            raise DefinitionError(f"{place}.{name}", "the field has no annotation", f"write {name}: str = …")
        if isinstance(value, dataclasses.Field) and not value.init:
            raise DefinitionError(
                f"{place}.{name}", "a field must be a parameter of the constructor", "drop init=False"
            )
        if annotated and isinstance(value, list | dict | set):
            hint = "write Array()" if isinstance(value, list) else "write Field(default_factory=…)"
            raise DefinitionError(f"{place}.{name}", f"a {type(value).__name__} as default would be shared", hint)


def _check_init_only(cls: type[Model], own: ModelInfo) -> None:
    """An `InitVar` is a parameter that no store keeps: an object could not be made again from its fields."""
    for field in vars(cls)["__dataclass_fields__"].values():
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]  # the one sign that dataclasses leave
            hint = "make it a field, a Transient(), or a parameter of a classmethod"
            raise DefinitionError(
                f"{own.place}.{field.name}", "an InitVar would be missing when the object is loaded", hint
            )


def _check_identity(cls: type[Model], own: ModelInfo) -> None:
    for other in infos_of(cls)[1:]:
        if other.is_entity and other.identity_names != own.identity_names:
            inherited = ", ".join(other.identity_names)
            raise DefinitionError(own.place, f"the identity is inherited from {other.name}: {inherited}", "keep it")


def _add_equality(cls: type[Model], own: ModelInfo) -> None:
    """`==` and hash, unless the class body has them or an entity inherits them from its root."""
    if "__eq__" in cls.__dict__ or (own.is_entity and own.root is not cls):
        return
    if own.is_entity:
        names = own.identity_names
    else:
        compared = [field.name for field in declared(cls) if options_of(field).stored]
        names = tuple(compared)
    source = Source(f"equality of {own.place}")
    self, other, root = source.fresh("self"), source.fresh("other"), source.bind(cls, cls.__name__)
    peer = f"isinstance({other}, {root})" if own.is_entity else f"{other}.__class__ is {self}.__class__"
    with source.block(f"def __eq__({self}, {other}):"):
        with source.block(f"if {self} is {other}:"):
            source.line("return True")
        with source.block(f"if {peer}:"):
            source.line(f"return {_key(self, names)} == {_key(other, names)}")
        source.line("return NotImplemented")
    with source.block(f"def __hash__({self}):"):
        seed = root if own.is_entity else f"{self}.__class__"
        source.line(f"return hash(({seed}, {_key(self, names)}))")
    equal, hashed = source.compiled("__eq__", "__hash__")
    _adopt(cls, equal)
    if own.is_entity or own.frozen:
        if cls.__dict__.get("__hash__") is None:
            _adopt(cls, hashed)
    elif "__hash__" not in cls.__dict__:
        cls.__hash__ = None  # type: ignore[assignment]  # what Python does for a class that defines only __eq__


def _key(obj: str, names: tuple[str, ...]) -> str:
    values = [f"{obj}.{name}" for name in names]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _adopt(cls: type[Model], function: Callable[..., Any]) -> None:
    function.__qualname__ = f"{cls.__qualname__}.{function.__name__}"
    function.__module__ = cls.__module__
    setattr(cls, function.__name__, function)

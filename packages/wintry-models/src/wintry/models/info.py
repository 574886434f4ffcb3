"""What the layers above read of a class: `info(Product)` gives its fields, identity and generated functions.

Every Model class carries one `ModelInfo` of its own from the moment of its definition, as a side attribute of the class
object; there is no registry, so two classes of one name never meet. Nothing is resolved until it is asked for: hints are
evaluated at first use, in the module (and, for a class defined in a function, the frame) where the class that declares
them stands, so that forward references, self references and names imported under `TYPE_CHECKING` work. The functions
that are generated for a class are made at first use too, and kept here.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import sys
import typing
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cached_property
from operator import attrgetter
from types import FrameType, MappingProxyType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from wintry.models import codec
from wintry.models.errors import DefinitionError, UnresolvedName, nearest
from wintry.models.kinds import ArrayOf, Kind, Leaf, Nested, Unsupported, kind_of
from wintry.models.tracking.diff import Tracker

if TYPE_CHECKING:
    from wintry.models.model import Model
    from wintry.models.tracking.changes import Place

METADATA = "wintry.models"


@dataclasses.dataclass(frozen=True, slots=True)
class FieldOptions:
    """What a field specifier says of its field, kept in the dataclass field's metadata."""

    is_id: bool = False
    unique: bool = False
    index: bool = False
    array: bool = False
    stored: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class FieldInfo:
    """One stored field of a Model."""

    name: str
    kind: Kind
    optional: bool
    is_id: bool
    unique: bool
    index: bool
    default: Any
    """The default, or `dataclasses.MISSING`."""
    default_factory: Any
    """What makes the default, or `dataclasses.MISSING`."""
    annotation: Any
    """The resolved annotation, `Annotated` included."""
    is_array: bool
    """Whether the field is a list."""
    model: type[Model] | None
    """The class of the nested Model or of the list's Models; None where the field holds scalars."""
    leaf: type | None
    """The type of the scalar or of the list's scalars; None where the field holds Models."""


class ModelInfo:
    """All about one Model class: its fields, its identity and the functions generated for it. See `info`."""

    def __init__(self, cls: type[Model], *, frozen: bool, frame: FrameType | None) -> None:
        self.cls = cls
        self.name = cls.__name__
        self.frozen = frozen
        """Whether its instances refuse attribute assignment."""
        self.fault: DefinitionError | None = None
        """What is wrong with the class body; a class with a fault cannot be used."""
        self.defined = False
        """Whether the class statement is over; before that nothing is imported to resolve a hint."""
        self._frame = frame

    def __repr__(self) -> str:
        return f"<ModelInfo of {self.cls.__module__}.{self.cls.__qualname__}>"

    @cached_property
    def place(self) -> str:
        """The class's dotted name, as errors show it."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @cached_property
    def identity_names(self) -> tuple[str, ...]:
        """The names of the identity fields; known without resolving hints."""
        return tuple(field.name for field in self._declared() if options_of(field).is_id)

    @cached_property
    def root(self) -> type[Model]:
        """The root class of the inheritance tree: of an entity, the first class that has its identity."""
        tree = infos_of(self.cls)
        return [own.cls for own in tree if own.is_entity or not self.is_entity][-1]

    @property
    def is_entity(self) -> bool:
        """Whether instances have an identity; a value object has none."""
        return bool(self.identity_names)

    @cached_property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The stored fields in declared order. Raises `DefinitionError` while a hint cannot be resolved."""
        found = tuple(self._field(field) for field in self._declared() if options_of(field).stored)
        self._frame = None  # what a function's frame keeps alive is not needed any longer
        return found

    def resolve(self) -> None:
        """Resolve the hints, so that whoever holds the info can rely on it. Raises `DefinitionError`."""
        _ = self.fields

    @cached_property
    def transient(self) -> tuple[dataclasses.Field[Any], ...]:
        """The fields that are not stored."""
        return tuple(field for field in self._declared() if not options_of(field).stored)

    @cached_property
    def by_name(self) -> Mapping[str, FieldInfo]:
        """The stored fields by name."""
        return MappingProxyType({field.name: field for field in self.fields})

    @cached_property
    def identity(self) -> tuple[FieldInfo, ...]:
        """The identity fields; empty for a value object."""
        return tuple(field for field in self.fields if field.is_id)

    @cached_property
    def arrays(self) -> tuple[FieldInfo, ...]:
        """The fields that are lists of Models."""
        return tuple(field for field in self.fields if field.is_array and field.model is not None)

    @cached_property
    def immutable(self) -> bool:
        """Whether an instance can never change: a frozen value object of scalars and of others like it."""
        seen: set[type[Model]] = set()
        waiting = [self]
        while waiting:  # a class may contain itself
            each = waiting.pop()
            if each.cls in seen:
                continue
            if each.is_entity or not each.frozen or any(field.is_array for field in each.fields):
                return False
            seen.add(each.cls)
            waiting += [info(field.model) for field in each.fields if field.model is not None]
        return True

    @cached_property
    def id_of(self) -> Callable[[Any], Any]:
        """`id_of(object)`: the id itself, or a tuple in declared order where the identity is composite."""
        if not self.is_entity:
            raise TypeError(f"{self.name} is a value object: it has no id")
        return attrgetter(*self.identity_names)

    @cached_property
    def restore(self) -> Callable[..., Any]:
        """`restore(*values)`: an object of these values in the order of `fields`. Trusted: nothing is validated.

        `__init__` is passed over, `__post_init__` runs, transient fields get their defaults.
        """
        return codec.make_restore(self)

    @cached_property
    def copy(self) -> Callable[[Any], Any]:
        """`copy(object)`: a deep copy of what is stored; immutable values are shared, transient fields start anew."""
        return codec.make_copy(self)

    @cached_property
    def check(self) -> Callable[[Any], None]:
        """`check(object)`: whether a store could keep it. Exact types and ranges of every leaf at any depth.

        Raises `InvalidValue` with the path, `SharedChild` or `DuplicateChild`.
        """
        check_at = self.check_at

        def check(obj: Any) -> None:
            try:
                check_at(obj, self.name, None)
            except RecursionError:
                self.tracker.check_ownership(obj)  # an object inside itself
                raise
            self.tracker.check_shared(obj, self.tracker.flatten(obj, []))

        return check

    @cached_property
    def check_at(self) -> Callable[[Any, str, Place], None]:
        """`check_at(object, root, at)`: the part of `check` that looks at values, for an object within `root`."""
        return codec.make_check(self)

    def check_field(self, field: FieldInfo, value: object, root: str, at: Place) -> None:
        """`check_at` for the value of one field. Raises `InvalidValue`."""
        codec.check_field(field, value, root, at)

    def check_item(self, field: FieldInfo, item: object, root: str, at: Place) -> None:
        """`check_at` for one item of a field's list. Raises `InvalidValue`."""
        codec.check_item(field, item, root, at)

    @cached_property
    def codec(self) -> codec.Codec:
        """Validators and serializers of the class."""
        return codec.Codec(self)

    @cached_property
    def tracker(self) -> Tracker:
        """The generated snapshot and comparison."""
        return Tracker(self)

    def _declared(self) -> tuple[dataclasses.Field[Any], ...]:
        if self.fault is not None:
            raise self.fault
        return declared(self.cls)

    def _field(self, field: dataclasses.Field[Any]) -> FieldInfo:
        options = options_of(field)
        place = f"{self.place}.{field.name}"
        annotation = self._resolved(field.name, place)
        try:
            kind, optional = kind_of(annotation)
        except Unsupported as unsupported:
            raise DefinitionError(place, *unsupported.args) from None
        if options.is_id and (optional or not isinstance(kind, Leaf)):
            raise DefinitionError(place, "an identity is one scalar and never None", "use str or int")
        if options.array and not isinstance(kind, ArrayOf):
            raise DefinitionError(place, "Array() makes a list", "annotate the field with list[X]")
        item = kind.item if isinstance(kind, ArrayOf) else kind
        return FieldInfo(
            name=field.name,
            kind=kind,
            optional=optional,
            is_id=options.is_id,
            unique=options.unique,
            index=options.index,
            default=field.default,
            default_factory=field.default_factory,
            annotation=annotation,
            is_array=isinstance(kind, ArrayOf),
            model=item.model if isinstance(item, Nested) else None,
            leaf=item.type if isinstance(item, Leaf) else None,
        )

    def _resolved(self, name: str, place: str) -> Any:
        """The annotation of a field, evaluated where the class that declares it stands."""
        for cls in self.cls.__mro__:
            if name in inspect.get_annotations(cls):
                own = cls.__dict__.get("__wintry_info__", self)  # a plain dataclass among the bases has none
                return _evaluated(cls, name, place, own._frame, importing=self.defined)
        raise DefinitionError(place, "a field needs an annotation in the class that declares it")


def _evaluated(cls: type, name: str, place: str, frame: FrameType | None, *, importing: bool) -> Any:
    """An annotation of `cls`; `importing` allows to import what its module imports for type checkers only."""
    module = sys.modules.get(cls.__module__)
    found: dict[str, Any] = {}
    scopes: list[Any] = [found, {cls.__name__: cls}, vars(module) if module else {}, vars(cls)]
    if frame is not None:
        scopes.insert(1, frame.f_locals)
    namespace = ChainMap(*scopes)
    holder = SimpleNamespace(__annotations__={name: inspect.get_annotations(cls)[name]})
    while True:
        try:
            return typing.get_type_hints(holder, globalns={}, localns=namespace, include_extras=True)[name]
        except NameError as error:
            missing = error.name or ""
            if importing and module is not None and _import_for_checkers(module, missing, found):
                continue
            reason = f"the name {missing!r} of its annotation is not defined"
            raise UnresolvedName(place, reason, nearest(missing, namespace)) from None
        except (TypeError, SyntaxError, AttributeError) as error:
            raise DefinitionError(place, f"its annotation cannot be evaluated: {error}") from None


def infos_of(cls: type) -> list[ModelInfo]:
    """The infos of a class and of the Models that it inherits from, in the order of resolution."""
    return [base.__dict__["__wintry_info__"] for base in cls.__mro__ if "__wintry_info__" in base.__dict__]


def info(model: type[Model]) -> ModelInfo:
    """All about a Model class; the same object at every call.

    Raises `DefinitionError` if a hint cannot be resolved or has an unsupported type, `TypeError` if `model` is no Model
    class.
    """
    found = model.__dict__.get("__wintry_info__") if isinstance(model, type) else None
    if found is None:
        raise TypeError(f"{model!r} is not a Model class")
    assert isinstance(found, ModelInfo)
    found.resolve()
    return found


def declared(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The dataclass fields of a Model class: a checker does not know that it is a dataclass."""
    return dataclasses.fields(cls)


def options_of(field: dataclasses.Field[Any]) -> FieldOptions:
    """What was said of a dataclass field by its specifier."""
    options: FieldOptions = field.metadata.get(METADATA, _PLAIN)
    return options


_PLAIN = FieldOptions()


def _import_for_checkers(module: ModuleType, name: str, found: dict[str, Any]) -> bool:
    """Import `name` as a block `if TYPE_CHECKING:` of the module would, into `found`; False if that gives nothing."""
    if name in found:
        return False
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return False
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.body:
                try:
                    found.update(_imported(statement, name, module.__package__))
                except (ImportError, AttributeError):  # a cycle that is still being imported
                    return False
    return name in found


def _imported(statement: ast.stmt, name: str, package: str | None) -> dict[str, Any]:
    """What an import statement binds `name` to; empty if it does not bind it."""
    if isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            if (alias.asname or alias.name) == name:
                source = importlib.import_module("." * statement.level + (statement.module or ""), package)
                if not hasattr(source, alias.name):  # a submodule
                    importlib.import_module(f"{source.__name__}.{alias.name}")
                return {name: getattr(source, alias.name)}
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            if (alias.asname or alias.name.partition(".")[0]) == name:
                imported = importlib.import_module(alias.name)
                return {name: imported if alias.asname else sys.modules[name]}
    return {}

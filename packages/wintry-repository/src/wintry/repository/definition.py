"""What a repository class says: its Model, its backend's name, its queries.

The class hook makes one `Definition` for each class. It compiles the marked methods of the class and of the plain
classes mixed into it, all of them before it reports any fault. Where a hint names something that is not defined yet,
the whole is done again when the open `collecting()` ends, or at the latest when the first repository is made.

Besides the derived methods a repository has queries of its own (`BUILT_IN`); they are plans like the others, and stand
first. Compiled queries are kept per backend, so that a second repository of the class costs nothing.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from wintry.models import Model, info
from wintry.models.errors import DefinitionError as ModelDefinitionError
from wintry.models.errors import UnresolvedName, nearest, postpone

from .calls import Call
from .errors import DefinitionError, Unsupported, report
from .language.operators import Operator
from .language.signature import Result
from .language.tree import Verb
from .plan import Compare, Parameter, QueryPlan, both, total_order
from .query import Query, compiled

if TYPE_CHECKING:
    from .backend import Backend, CompiledQuery

FIND, COUNT, EXISTS, DELETE_ALL, DELETE_BY_ID = range(5)
_BUILT_IN: Final[tuple[tuple[str, Verb, Result, bool], ...]] = (
    ("find", "find", Result.LIST, False),
    ("count", "count", Result.NUMBER, False),
    ("exists", "exists", Result.FLAG, True),
    ("delete_all", "delete", Result.NUMBER, False),
    ("delete_by_id", "delete", Result.NUMBER, True),
)


class Definition:
    """One repository class; `model` is checked, `calls` are compiled as soon as the hints allow."""

    def __init__(self, owner: type, model: type[Model], backend_name: str, scope: Mapping[str, Any]) -> None:
        self.owner = owner
        self.place = f"{owner.__module__}.{owner.__qualname__}"
        self.model = model
        self.backend_name = backend_name
        self.calls: tuple[Call, ...] = ()
        self._faults: Sequence[ModelDefinitionError] = ()
        self._scope: Mapping[str, Any] | None = scope
        self._compiled: WeakKeyDictionary[Backend, tuple[CompiledQuery, ...]] = WeakKeyDictionary()

    def define(self) -> None:
        """Compile what can be compiled now; postpone the rest to the end of `collecting()`, or to the first use."""
        try:
            self.complete()
        except UnresolvedName:
            postpone(self.complete)

    def complete(self) -> None:
        """Compile the class, unless that is done. Raises `UnresolvedName` while a hint cannot be resolved."""
        if self._scope is None:
            return
        try:
            known = info(self.model)
        except UnresolvedName:
            raise
        except ModelDefinitionError as fault:
            self._scope = None
            self._faults = [fault]  # the Model tells it by itself; here it only makes the class unusable
            return
        if not known.is_entity:
            self._scope = None
            hint = f"mark a field of {self.model.__name__} with RequiredId() or Id()"
            reason = f"{self.model.__name__} has no identity, and cannot be found again"
            self._faults = [DefinitionError(self.place, reason, hint)]
            report(self.place, self._faults)
            return
        calls = _built_in(self.model, self.owner.__name__)
        methods: dict[str, Callable[..., Any]] = {}
        faults: list[ModelDefinitionError] = []
        scope = {self.model.__name__: self.model, **self._scope}
        for name, query in _marked(self.owner).items():
            try:
                methods[name], call = compiled(name, query, self.owner.__name__, self.model, len(calls), scope)
                calls.append(call)
            except NameError as error:
                missing = error.name or ""
                reason = f"the name {missing!r} of its signature is not defined"
                raise UnresolvedName(f"{self.place}.{name}", reason, nearest(missing, scope)) from None
            except DefinitionError as fault:
                faults.append(fault)
        self._scope = None
        self.calls = tuple(calls)
        self._faults = faults
        for name, method in methods.items():
            setattr(self.owner, name, method)
        report(self.place, faults)

    def usable(self) -> None:
        """Raises the faults that a `collecting()` kept back."""
        try:
            self.complete()
        except UnresolvedName as fault:
            raise DefinitionError(fault.place, fault.reason, fault.hint) from None
        if self._faults:
            raise DefinitionError(self.place, "cannot be used: its definition has faults", faults=self._faults)

    def queries(self, backend: Backend) -> tuple[CompiledQuery, ...]:
        """The queries in the form that `backend` runs. Raises `Unsupported`, all of it in one report."""
        found = self._compiled.get(backend)
        if found is None:
            made, refused = [], []
            for call in self.calls:
                try:
                    made.append(backend.compile(call.plan))
                except Unsupported as fault:
                    refused.append(fault)
            if refused:
                reason = f"the backend '{backend.name}' ({backend.kind}) cannot run all of its queries"
                raise Unsupported(self.owner.__qualname__, reason, faults=refused)
            found = self._compiled[backend] = tuple(made)
        return found


def entity_of(owner: type, given: object) -> type[Model] | None:
    """The Model of a repository class: `entity=`, else the first argument of `Repository[…]`; None if neither is there.

    Raises `DefinitionError` where it is not a Model.
    """
    place = f"{owner.__module__}.{owner.__qualname__}"
    if given is None:
        given = _argument(owner)
        if given is None:
            return None
    if not (isinstance(given, type) and issubclass(given, Model)):
        raise DefinitionError(place, f"entity={given!r} is not a Model class", "give a class derived from Model")
    return given


def _argument(owner: type) -> object:
    for base in getattr(owner, "__orig_bases__", ()):
        for argument in typing.get_args(base)[:1]:
            if isinstance(argument, type):
                return argument
    return None


def _marked(owner: type) -> dict[str, Query]:
    """The methods of the class and its bases that are marked and not yet compiled, in the order of their definition."""
    found: dict[str, Query] = {}
    for base in reversed(owner.__mro__):
        for name, value in vars(base).items():
            query = value if isinstance(value, Query) else getattr(value, "__wintry_query__", None)
            if isinstance(query, Query):
                found[name] = query
            else:
                found.pop(name, None)
    return found


def _built_in(model: type[Model], owner: str) -> list[Call]:
    calls = []
    for index, (name, verb, result, by_id) in enumerate(_BUILT_IN):
        parameters: tuple[Parameter, ...] = ()
        where = None
        if by_id:
            identity = info(model).identity
            kinds = [field.leaf or object for field in identity]
            parameters = tuple(
                Parameter(place, field.name, kind)
                for place, (field, kind) in enumerate(zip(identity, kinds, strict=True))
            )
            where = both(
                [
                    Compare((field,), Operator.EQ, parameter.type, False, (parameter,))
                    for field, parameter in zip(identity, parameters, strict=True)
                ]
            )
        order = total_order(model) if verb == "find" else ()
        calls.append(Call(QueryPlan(f"{owner}.{name}", model, verb, where, order, None, parameters), result, index))
    return calls

"""A reading and the signature of its method → where each value comes from and what is given back.

A term finds its parameter by name, the most telling first: the path with its operator (`batches__eta_before`), the path
(`batches__eta`), the last field (`eta`) where no other term ends in it. A range takes two, `…_from` and `…_to`, or one
pair. Every term must find its own parameter, every parameter without a default must be found, and the types must fit;
a reading that fails this is not what the author meant. The return annotation says how many objects are wanted.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

from wintry.models.kinds import ArrayOf, Leaf

from .operators import Operator
from .tree import Reading, Term

if TYPE_CHECKING:
    from wintry.models import Model


class Result(Enum):
    """What a method gives back."""

    ONE = "one"
    """The object; `NotFound` without one, `MultipleFound` with several."""
    OPTIONAL = "optional"
    """The object or None; `MultipleFound` with several."""
    # The rest is what the store gives, in the container or of the kind that the word says.
    LIST = "list"
    TUPLE = "tuple"
    NUMBER = "number"
    FLAG = "flag"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Method:
    """A method as it was written: the name that is compiled, its signature, its resolved hints."""

    name: str
    text: str
    signature: inspect.Signature
    hints: Mapping[str, Any]

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Its parameters without `self`."""
        return list(self.signature.parameters.values())[1:]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of one term come from: `names` are two for `…_from`, `…_to`; with `pair` one holds both."""

    term: Term
    type: type
    names: tuple[str, ...]
    pair: bool = False


@dataclass(slots=True)
class Binding:
    """A reading that was held against a signature; it fits where `faults` is empty."""

    reading: Reading
    sources: list[Source] = field(default_factory=list)
    result: Result = Result.LIST
    faults: list[str] = field(default_factory=list)


def bind(reading: Reading, method: Method, model: type[Model]) -> Binding:
    """Hold `reading` against the signature of `method`."""
    binding = Binding(reading)
    _Binder(binding, method).run()
    binding.result = _result(binding, method, model)
    return binding


def suggestion(reading: Reading, name: str, model: type[Model]) -> str | None:
    """A signature that fits `reading`, as one line of Python; None where none does."""
    if _faults(reading) or max(_written(reading).values(), default=1) > 1:
        return None
    parameters = []
    taken = Counter(term.name for term in reading.terms)
    for term in reading.terms:
        if not term.operator.arity:
            continue
        base = term.name if taken[term.name] == 1 else _keywords(term)[0]
        text = _type_name(_leaf(term))
        if term.operator is Operator.BETWEEN:
            parameters += [f"{base}_from: {text}", f"{base}_to: {text}"]
        else:
            parameters.append(f"{base}: {f'list[{text}]' if term.operator.many else text}")
    head = ", ".join(["self", *(["*"] if parameters else []), *parameters])
    returns = {"count": "int", "exists": "bool", "delete": "int"}.get(reading.verb)
    if returns is None:
        optional = reading.word == "get" or reading.single
        returns = f"{model.__name__} | None" if optional else f"list[{model.__name__}]"
    return f"async def {name}({head}) -> {returns}: ..."


def _faults(reading: Reading) -> list[str]:
    """What is wrong with a reading, whatever its signature."""
    found = []
    if reading.verb != "find" and (reading.limit is not None or reading.single or reading.order):
        found.append(f"'{reading.word}' takes neither first, one nor order_by")
    if reading.verb != "find" and reading.locked:
        found.append(f"'{reading.word}' loads nothing that could be locked: leave '_for_update' out")
    return found


def _written(reading: Reading) -> Counter[str]:
    """How often each term that takes a value stands in the name, by its own words."""
    return Counter(_keywords(term)[0] for term in reading.terms if term.operator.arity)


class _Binder:
    """Gives each term its parameters; what remains on either side is a fault."""

    def __init__(self, binding: Binding, method: Method) -> None:
        self.binding = binding
        self.method = method
        self.free = {parameter.name: parameter for parameter in method.parameters}
        self.faults = binding.faults

    def run(self) -> None:
        for parameter in self.method.parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self.faults.append(f"*{parameter.name} says nothing about the query: name each parameter")
                del self.free[parameter.name]
        terms = [term for term in self.binding.reading.terms if term.operator.arity]
        last = Counter(term.field.name for term in terms)
        found: dict[int, Source] = {}
        for rank in range(3):
            for index, term in enumerate(terms):
                names = _keywords(term)
                if index in found or (rank == 2 and last[term.field.name] > 1):
                    continue
                source = self._take(term, names[rank])
                if source is not None:
                    found[index] = source
        written = _written(self.binding.reading)
        for index, term in enumerate(terms):
            text = _keywords(term)[0]
            if index in found:
                continue
            if written[text] > 1:
                self.faults.append(f"'{text}' stands there twice, and no parameter tells the two apart")
            else:
                self.faults.append(f"no parameter gives {self._wanted(term)}")
        self.binding.sources = [found[index] for index in sorted(found)]
        for name, parameter in self.free.items():
            if parameter.default is parameter.empty:
                self.faults.append(f"parameter '{name}' belongs to no term of the name")
            else:
                self.faults.append(f"parameter '{name}' has a default, but belongs to no term of the name")
        for source in self.binding.sources:
            self._check(source)

    def _take(self, term: Term, name: str) -> Source | None:
        leaf = _leaf(term)
        if name in self.free:
            del self.free[name]
            return Source(term, leaf, (name,), pair=term.operator is Operator.BETWEEN)
        ends = (f"{name}_from", f"{name}_to")
        if term.operator is Operator.BETWEEN and all(end in self.free for end in ends):
            for end in ends:
                del self.free[end]
            return Source(term, leaf, ends)
        return None

    def _wanted(self, term: Term) -> str:
        names = list(dict.fromkeys(_keywords(term)[:2]))
        text = _type_name(_leaf(term))
        if term.operator is Operator.BETWEEN:
            return f"the range of '{term.name}': give '{names[-1]}_from' and '{names[-1]}_to' ({text}), or a pair"
        kind = f"list[{text}]" if term.operator.many else text
        return f"the value of '{term.name}': give " + " or ".join(f"'{name}'" for name in names) + f" ({kind})"

    def _check(self, source: Source) -> None:
        """The annotation of each parameter, where it has one."""
        term = source.term
        for name in source.names:
            hint = self.method.hints.get(name, Any)
            if term.operator.many:
                fits, wanted = _accepts_many(hint, source.type), f"an iterable of {_type_name(source.type)}"
            elif source.pair:
                fits, wanted = _accepts_pair(hint, source.type), f"a pair of {_type_name(source.type)}"
            else:
                fits = _accepts(hint, source.type, none=not term.operator.ordered)
                wanted = _type_name(source.type)
                if not fits and _accepts(hint, source.type, none=True):
                    wanted += " without None, which has no order"
            if not fits:
                self.faults.append(f"parameter '{name}' is {_type_name(hint)}; '{term.name}' wants {wanted}")


def _keywords(term: Term) -> tuple[str, str, str]:
    """The names under which a parameter may serve `term`, the most telling first."""
    prefix = "not_" if term.excluded else ""
    full = f"{prefix}{term.name}" + (f"_{term.suffix}" if term.suffix else "")
    return full, term.name, term.field.name


def _leaf(term: Term) -> type:
    kind = term.field.kind
    leaf = kind.item if isinstance(kind, ArrayOf) else kind
    return leaf.type if isinstance(leaf, Leaf) else leaf.model


_FINDS: Final = "the object, the object | None, list[…] or tuple[…, ...] of it"


def _result(binding: Binding, method: Method, model: type[Model]) -> Result:
    """What the return annotation, or the verb in its absence, asks for."""
    reading, hint = binding.reading, _plain(method.hints.get("return", Any))
    missing = "return" not in method.hints or hint is Any
    binding.faults += _faults(reading)
    if reading.verb == "count":
        return _expect(binding, missing or hint is int, Result.NUMBER, hint, "int")
    if reading.verb == "exists":
        return _expect(binding, missing or hint is bool, Result.FLAG, hint, "bool")
    if reading.verb == "delete":
        result = Result.NOTHING if hint is type(None) else Result.NUMBER
        return _expect(binding, missing or hint in (int, type(None)), result, hint, "int or None")
    if missing:
        result = Result.OPTIONAL if reading.word == "get" or reading.single else Result.LIST
    else:
        result = _objects(hint, model) or _expect(binding, False, Result.LIST, hint, _FINDS)
    many = result in (Result.LIST, Result.TUPLE)
    if reading.single and many:
        binding.faults.append("'_one' asks for one object; annotate it, or leave '_one' out")
    if reading.limit is not None and reading.limit > 1 and not many:
        binding.faults.append(f"first_{reading.limit} gives up to {reading.limit} objects: annotate list[…]")
    return result


def _expect(binding: Binding, fits: bool, result: Result, hint: Any, wanted: str) -> Result:
    if not fits:
        binding.faults.append(f"it returns {_type_name(hint)}; '{binding.reading.word}' gives {wanted}")
    return result


def _objects(hint: Any, model: type[Model]) -> Result | None:
    """How many objects of `model` the annotation holds; None where it holds something else."""
    if _holds(hint, model):
        return Result.ONE
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return Result.OPTIONAL if len(rest) == 1 < len(arguments) and _holds(rest[0], model) else None
    if (origin or hint) in (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return Result.LIST if not arguments or _holds(arguments[0], model) else None
    if (origin or hint) is tuple:
        fits = not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis and _holds(arguments[0], model))
        return Result.TUPLE if fits else None
    return None


def _holds(hint: Any, model: type[Model]) -> bool:
    hint = _plain(hint)
    if isinstance(hint, typing.TypeVar) or hint is Any:
        return True
    return isinstance(hint, type) and hint is not object and issubclass(model, hint)


def _plain(hint: Any) -> Any:
    """The hint without `Annotated` and `NewType` around it."""
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _accepts(hint: Any, leaf: type, *, none: bool) -> bool:
    """Whether a parameter annotated `hint` gives values to compare with a `leaf`."""
    hint = _plain(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return all(none if argument is type(None) else _accepts(argument, leaf, none=none) for argument in arguments)
    if origin is typing.Literal:
        return all(type(argument) is leaf for argument in arguments)
    if hint is type(None):
        return none
    if not isinstance(hint, type) or (leaf is not bool and hint is bool):
        return False
    if leaf is float and hint is int:
        return True
    if leaf is date and issubclass(hint, datetime):
        return False
    return hint is object or issubclass(hint, leaf)


def _accepts_many(hint: Any, leaf: type) -> bool:
    hint = _plain(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    origin = typing.get_origin(hint) or hint
    arguments = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, dict)):
        return False
    if not issubclass(origin, collections.abc.Iterable):
        return False
    return all(_accepts(argument, leaf, none=True) for argument in arguments)


def _accepts_pair(hint: Any, leaf: type) -> bool:
    arguments = [argument for argument in typing.get_args(_plain(hint)) if argument is not Ellipsis]
    return _accepts_many(hint, leaf) and all(_accepts(argument, leaf, none=False) for argument in arguments)


def _type_name(hint: Any) -> str:
    if hint is type(None):
        return "None"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")

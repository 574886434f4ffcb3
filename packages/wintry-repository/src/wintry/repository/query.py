"""`@query`: a method's name → its compiled call.

The decorator only marks. When the class is complete, the class hook of `Repository` hands every marked method to
`compiled`: the name is parsed over the Model, each reading is held against the signature, and the one that fits becomes
a plan. What replaces the method is a generated coroutine function of the same signature that checks the values inline,
puts them into a tuple and awaits its `Call`; nothing is looked up or inspected when it is called. `calls.py` has what
happens then.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from wintry.models.source import Source

from .calls import Call
from .errors import AmbiguousQueryName, DefinitionError
from .language import arguments
from .language.parser import Failure, parse
from .language.signature import Binding, Method, bind, suggestion
from .plan import normalise

if TYPE_CHECKING:
    from wintry.models import Model

    from .language.signature import Source as ValueSource

F = TypeVar("F", bound=Callable[..., Any])


class Query:
    """A marked method that no repository has compiled (yet); `text` is what is compiled."""

    def __init__(self, function: Callable[..., Any], text: str | None = None) -> None:
        self.function = function
        self.text = function.__name__ if text is None else text

    def __get__(self, instance: object, owner: type) -> Query:
        if instance is None:
            return self
        place = f"{owner.__qualname__}.{self.function.__name__}"
        raise DefinitionError(place, "was never compiled", "@query belongs to a Repository with entity= and no fault")


@overload
def query(method: F, /) -> F: ...
@overload
def query(text: str, /) -> Callable[[F], F]: ...
def query(method: F | str, /) -> F | Callable[[F], F]:
    """Have a method's name, or `text` in its place, compiled into a query.

    Faults of the name and the signature are a `DefinitionError` when the class is defined.
    """
    if isinstance(method, str):
        text = method
        return lambda function: cast("F", Query(function, text))
    return cast("F", Query(method))


def compiled(
    name: str, query: Query, owner: str, model: type[Model], index: int, scope: Mapping[str, Any]
) -> tuple[Callable[..., Any], Call]:
    """The function that replaces a marked method of the class `owner`, and its call, the `index`-th of the class.

    `scope` has the names that hints may use besides those of the method's module. Raises `DefinitionError`, and
    NameError where a hint cannot be resolved yet.
    """
    place = f"{owner}.{name}"
    function = query.function
    if not inspect.iscoroutinefunction(function):
        raise DefinitionError(_located(place, function), "@query marks methods that are `async def`")
    hints = typing.get_type_hints(function, {**function.__globals__, **scope})
    method = Method(name, query.text, inspect.signature(function), hints)
    binding = _chosen(method, place, function, model)
    call = Call(normalise(binding, model, place), binding.result, index)
    emitted = _emitted(method, function, binding, call)
    vars(emitted)["__wintry_query__"] = query  # a subclass compiles it again, for its own Model
    return emitted, call


def _chosen(method: Method, place: str, function: Callable[..., Any], model: type[Model]) -> Binding:
    """The one reading of the name that fits the signature."""
    readings, failure = parse(method.text, model)
    if failure is not None:
        raise DefinitionError(
            _located(place, function), *_explained(failure, method, model), drawing=_underlined(method.text, failure)
        )
    bindings = [bind(reading, method, model) for reading in readings]
    fitting = [binding for binding in bindings if not binding.faults]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        drawing = [f"{number}. {binding.reading}" for number, binding in enumerate(fitting, 1)]
        hint = "name the parameters so that they fit only one, or rename a field"
        reason = "the name can be read in more than one way, and the signature fits each"
        raise AmbiguousQueryName(_located(place, function), reason, hint, drawing=drawing)
    nearest = min(bindings, key=lambda binding: len(binding.faults))
    suggested = suggestion(nearest.reading, method.name, model)
    way_out = None if suggested is None else f"this would fit:  {suggested}"
    raise DefinitionError(_located(place, function), "; ".join(nearest.faults), way_out, drawing=[method.text])


def _located(place: str, function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno} {place}"


def _underlined(text: str, failure: Failure) -> Sequence[str]:
    return text, " " * failure.start + "^" * max(len(failure.word), 1)


def _explained(failure: Failure, method: Method, model: type[Model]) -> tuple[str, str | None]:
    """The reason of a failure to read a name, and the way out."""
    if failure.nearest is None or failure.repaired is None:
        return failure.reason, None
    aliased = "" if method.name == method.text else f", as in '{failure.repaired}'"
    hint = f"did you mean '{failure.nearest}'{aliased}?"
    readings, _ = parse(failure.repaired, model)
    suggested = suggestion(readings[0], method.name if aliased else failure.repaired, model) if readings else None
    if suggested is not None:
        hint += f"  {suggested}"
    return failure.reason, hint


def _emitted(method: Method, function: Callable[..., Any], binding: Binding, call: Call) -> Callable[..., Any]:
    """The method that checks its values and awaits its call."""
    source = Source(call.plan.label)
    names = list(method.signature.parameters)
    for name in names:
        source.fresh(name)
    run = source.bind(call.runner(), "run")
    with source.block(f"async def {method.name}({_head(method, source)}):"):
        values = [value for item in binding.sources for value in _checked(item, source, call)]
        # `in` and pairs make one or two values of one argument; all others stay under their own names.
        given = "".join(f"{value}, " for value in values)
        source.line(f"return await {run}({names[0]}, ({given}))")
    (emitted,) = source.compiled(method.name)
    return functools.wraps(function)(emitted)


def _head(method: Method, source: Source) -> str:
    """The parameters as they were written, defaults included, annotations left out."""
    plain = []
    for parameter in method.signature.parameters.values():
        default = parameter.default
        if default is not parameter.empty:
            default = _Name(source.bind(default, f"default_{parameter.name}"))
        plain.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(plain))[1:-1]


class _Name(str):
    """A name that stands for a value in the text of a signature."""

    def __repr__(self) -> str:
        return str(self)


def _checked(item: ValueSource, source: Source, call: Call) -> list[str]:
    """Emit the checks of the values of one term; give the expressions of the values."""
    operator = item.term.operator
    place = f"{call.plan.label}({', '.join(item.names)})"
    if operator.many:
        check = source.bind(functools.partial(arguments.many, type=item.type, place=place), "many")
        (name,) = item.names
        source.line(f"{name} = {check}({name})")
        return [name]
    if item.pair:
        check = source.bind(functools.partial(arguments.pair, type=item.type, place=place), "pair")
        (name,) = item.names
        source.line(f"{name} = {check}({name})")
        return [f"{name}[0]", f"{name}[1]"]
    optional = not operator.ordered
    check = source.bind(functools.partial(arguments.one, type=item.type, place=place, optional=optional), "one")
    test = arguments.quick_test(item.type, source.bind)
    for name in item.names:
        if test is None:
            source.line(f"{name} = {check}({name})")
        else:
            with source.block(f"if {test(name)}:"):
                source.line(f"{name} = {check}({name})")
    return list(item.names)

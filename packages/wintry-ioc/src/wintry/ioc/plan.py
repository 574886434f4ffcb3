"""From graph to source: one generated function for each root.

The function takes a scope and returns the root. Singletons, values and loggers are constants of its namespace. The
scoped nodes that the root needs come first, in order of need: each is taken from the scope or made and put there, so
none is made twice, and one that is there has all that it needs there too. Transient nodes are made anew at the place
that wants them. A factory that ends (a generator) is entered through the scope, which remembers to finish it; an async
scoped factory is built through `once`, since two tasks of one scope may come at the same time.

Only a plan that has something to await is a coroutine function.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from .graph import Edge, Node, bottom_up, targets
from .hints import dotted, short
from .registry import Kind, Recipe
from .scope import Scope, absent, closed, enter, enter_async, once
from .source import Source, snake

T = TypeVar("T")
Writing: TypeAlias = Generator["Writing[Any]", Any, T]  # a step of writing, which yields those that must come before


class Plan(Generic[T]):
    """A compiled way to one thing: `make(scope)` returns it, or an awaitable of it if `is_async`.

    Keep the plan, but read `make` and `is_async` at each use: an override of the container swaps them.
    """

    __slots__ = ("is_async", "key", "make", "source")

    def __init__(self, key: Any, make: Callable[[Scope], Any]) -> None:
        self.key = key
        self.make = make
        self.is_async = False
        self.source = ""

    def __repr__(self) -> str:
        return f"<plan for {dotted(self.key)}>"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A generated function, whether it is a coroutine function, and its text."""

    make: Callable[[Scope], Any]
    is_async: bool
    source: str


def compile_root(root: Node, instances: Mapping[Recipe, object]) -> Compiled:
    """The function that finds or makes `root` in a scope; `instances` are the singletons that exist."""
    return _Writer(instances).write(root, build=False)


def compile_build(root: Node, instances: Mapping[Recipe, object]) -> Compiled:
    """The function that makes the singleton `root`, whose own singletons exist already."""
    return _Writer(instances).write(root, build=True)


# what the generated code calls besides the factories
_RUNTIME: Mapping[str, Any] = {
    "absent": absent,
    "closed": closed,
    "enter": enter,
    "enter_async": enter_async,
    "once": once,
}


def awaits(root: Node, *, build: bool = False) -> bool:
    """Whether finding `root`, or building it anew, has something to await."""
    return any(each.recipe.kind.is_async for each in _made(root, build=build))


def _run(writing: Writing[T]) -> T:
    """Finish a step of writing with the steps that it waits for; transient things may be as deep as they like."""
    steps: list[Writing[Any]] = [writing]
    value: Any = None
    while steps:
        try:
            step = steps[-1].send(value)
        except StopIteration as end:
            steps.pop()
            value = end.value
        else:
            steps.append(step)
            value = None
    result: T = value
    return result


class _Writer:
    def __init__(self, instances: Mapping[Recipe, object]) -> None:
        self._instances = instances
        self._source = Source(dict(_RUNTIME), reserved=("scope", "made"))
        self._locals: dict[Recipe, str] = {}

    def write(self, root: Node, *, build: bool) -> Compiled:
        source = self._source
        scoped = [] if root.lifetime == "singleton" else _scoped_nodes(root)
        is_async = awaits(root, build=build)
        last = short(root.key).rpartition(".")[2]
        name = source.fresh(f"{'build' if build else 'make'}_{snake(last)}")
        with source.block(f"{'async ' if is_async else ''}def {name}(scope):"):
            if build:
                source.line(f"return {_run(self._new(root))}")
            else:
                self._opening(root)
                for each in scoped:
                    self._scoped(each, looked_up=each is root)
                source.line(f"return {self._result(root)}")
        return Compiled(source.function(name, f"plan for {root.name}"), is_async, source.text)

    def _opening(self, root: Node) -> None:
        """What every plan begins with: a scope that ended is refused, a root that is there is returned."""
        if root.lifetime == "scoped":
            self._source.line("made = scope.made")
            with self._source.block(f"if {root.recipe.index} in made:"):
                self._source.line(f"return made[{root.recipe.index}]")
        else:
            with self._source.block("if scope.closed:"):
                self._source.line(f"raise closed(scope, {dotted(root.key)!r})")
            if root.lifetime == "transient":
                self._source.line("made = scope.made")

    def _result(self, root: Node) -> str:
        if root.lifetime == "singleton":
            return self._constant(root)
        return self._locals[root.recipe] if root.lifetime == "scoped" else _run(self._new(root))

    def _scoped(self, node: Node, *, looked_up: bool) -> None:
        """Take a scoped node from the scope into a local, or make it and put it there."""
        source, index = self._source, node.recipe.index
        local = self._locals[node.recipe] = source.fresh(snake(short(node.key)))
        if looked_up:
            self._make_scoped(node, local)
            return
        with source.block(f"if {index} in made:"):
            source.line(f"{local} = made[{index}]")
        with source.block("else:"):
            self._make_scoped(node, local)

    def _make_scoped(self, node: Node, local: str) -> None:
        index = node.recipe.index
        if node.recipe.kind is Kind.CONTEXT:
            self._source.line(f"raise absent({dotted(node.key)!r})")
        elif node.recipe.kind.is_async:
            new = _run(self._new(node, awaited=False))
            self._source.line(f"{local} = await once(scope, {index}, lambda: {new})")
        else:
            self._source.line(f"{local} = made.setdefault({index}, {_run(self._new(node))})")

    def _new(self, node: Node, awaited: bool = True) -> Writing[str]:
        """The expression that calls the factory; what must be made before it is written first."""
        arguments: list[str] = []
        for edge in node.edges:
            text = yield self._argument(node, edge)
            if text is not None:
                arguments.append(text)
        factory = self._source.constant(node.recipe.factory, short(node.recipe.factory))
        call = f"{factory}({', '.join(arguments)})"
        match node.recipe.kind:
            case Kind.COROUTINE:
                return f"await {call}" if awaited else call
            case Kind.GENERATOR:
                return f"enter(scope, {call})"
            case Kind.ASYNC_GENERATOR:
                return f"{'await ' if awaited else ''}enter_async(scope, {call})"
            case _:
                return call

    def _argument(self, node: Node, edge: Edge) -> Writing[str | None]:
        """`name=expression`; None if the default of the factory stands."""
        wanted = edge.dependency
        if edge.logger:
            name = node.recipe.place
            value = self._source.constant(logging.getLogger(name), "logger")
        elif edge.many:
            items: list[str] = []
            for target in edge.targets:
                items.append((yield self._value(target)))
            value = f"[{', '.join(items)}]"
        elif edge.absent:
            if wanted.default is None:
                value = "None"
            elif wanted.positional:
                value = self._source.constant(wanted.default, f"default_{wanted.name}")
            else:
                return None
        else:
            value = yield self._value(edge.targets[0], edge)
        return value if wanted.positional else f"{wanted.name}={value}"

    def _value(self, node: Node, edge: Edge | None = None) -> Writing[str]:
        """The expression for a dependency: a constant, a local, or a new local made on the line before."""
        if node.lifetime == "singleton":
            return self._constant(node)
        if node.recipe.kind is Kind.CONTEXT and edge is not None and edge.dependency.optional:
            default = self._source.constant(edge.dependency.default, f"default_{edge.dependency.name}")
            return f"made.get({node.recipe.index}, {default})"
        if node.lifetime == "scoped":
            return self._locals[node.recipe]
        local = self._source.fresh(snake(short(node.key)))
        new = yield self._new(node)
        self._source.line(f"{local} = {new}")
        return local

    def _constant(self, node: Node) -> str:
        value = node.recipe.factory if node.recipe.kind is Kind.VALUE else self._instances[node.recipe]
        return self._source.constant(value, snake(short(node.key)))


def _scoped_nodes(root: Node) -> list[Node]:
    """The scoped nodes that a root needs, itself included, each after those that it needs."""
    return [node for node in bottom_up([root], _in_scope) if node.lifetime == "scoped"]


def _in_scope(node: Node) -> Iterator[Node]:
    """What a node needs that is no singleton; a context value that it can do without is looked up where it is used."""
    return (
        target
        for edge in node.edges
        for target in edge.targets
        if target.lifetime != "singleton"
        and not (target.recipe.kind is Kind.CONTEXT and edge.dependency.optional and not edge.many)
    )


def _made(root: Node, *, build: bool) -> Iterator[Node]:
    """The nodes whose factories the function calls: all but singletons, and `root` if it is being built."""
    if root.lifetime == "singleton" and not build:
        return
    seen = {root}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        for target in targets(node):
            if target.lifetime != "singleton" and target not in seen:
                seen.add(target)
                waiting.append(target)

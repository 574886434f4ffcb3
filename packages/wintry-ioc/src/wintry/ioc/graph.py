"""The graph of recipes, its checks and its drawn faults.

A `Graph` resolves every dependency of every recipe to the recipes that fill it, settles the automatic lifetimes, and
gathers what is wrong: missing and ambiguous providers, cycles, captive dependencies, hints that cannot be resolved.
It is a picture of one moment: an override makes another graph, with other recipes for the replaced keys.

A node *reaches something scoped* if a path of automatic or transient nodes leads from it to a scoped one or to a
context value. Stated singletons end such a path: holding something scoped is their own fault, told at them.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .errors import Fault
from .hints import Dependency, dotted, short
from .marks import Lifetime
from .registry import Kind, Recipe, Registry

_PLAIN = (str, int, float, bool, bytes, complex)
Path = tuple["tuple[Edge, Node]", ...]


@dataclass(slots=True, eq=False)
class Edge:
    """A dependency and the nodes that fill it: several for `list[T]`, none for a logger or an absent optional."""

    dependency: Dependency
    targets: tuple[Node, ...] = ()
    many: bool = False
    logger: bool = False

    @property
    def absent(self) -> bool:
        """Whether the default stands, since nothing provides the key."""
        return not self.targets and not self.many and not self.logger


@dataclass(slots=True, eq=False)
class Node:
    """A recipe in one graph: the key it was first found under, its edges, its settled lifetime.

    `stated` is the lifetime that it was registered with, None for an automatic one; `cause` the path to what makes an
    automatic one scoped.
    """

    recipe: Recipe
    key: Any
    stated: Lifetime | None
    edges: list[Edge] = field(default_factory=list)
    lifetime: Lifetime = "singleton"
    cause: Path = ()

    @property
    def name(self) -> str:
        """The dotted name in messages."""
        return self.recipe.place


class Graph:
    """All nodes of a registry, with `replaced` recipes in place of those of some keys, and `roots` besides."""

    def __init__(self, registry: Registry, replaced: Mapping[Any, Recipe], roots: Sequence[Recipe] = ()) -> None:
        self.faults: list[Fault] = []
        self.nodes: dict[Recipe, Node] = {}
        self.registry = registry
        self._replaced = replaced
        self._consumers: dict[Recipe, Node] = {}  # the first node that asks for a recipe
        for key in registry:
            for recipe, stated in registry.entries(key) if key not in replaced else ():
                self._node(recipe, key, stated)
        for key, recipe in replaced.items():
            self._node(recipe, key, "singleton")
        for recipe in roots:
            self._node(recipe, recipe.place, "transient")
        self._link(list(self.nodes.values()))
        self._settle(list(self.nodes.values()))

    def root(self, recipe: Recipe) -> Node:
        """The node of a recipe that is asked for from outside, such as the parameters of an injected function.

        Its faults, if it was not there before, are added to `faults`.
        """
        found = self.nodes.get(recipe)
        if found is None:
            found = self._node(recipe, recipe.place, "transient")
            self._link([found])
            self._settle([found])
        return found

    def find(self, key: Any) -> list[Node]:
        """The nodes that provide a key if it is injected singly: none, one, or several that are ambiguous."""
        return [self.nodes[recipe] for recipe in self._candidates(key)]

    def singletons(self) -> list[Node]:
        """The singletons, each after those that it needs."""
        return [
            node
            for node in bottom_up(sorted(self.nodes.values(), key=lambda node: node.recipe.index), targets)
            if node.lifetime == "singleton" and node.recipe.kind is not Kind.VALUE
        ]

    # ---- nodes and edges

    def _node(self, recipe: Recipe, key: Any, stated: Lifetime) -> Node:
        found = self.nodes.get(recipe)
        if found is None:
            found = self.nodes[recipe] = Node(recipe, key, None if recipe.automatic else stated)
        return found

    def _candidates(self, key: Any, *, every: bool = False) -> list[Recipe]:
        if key in self._replaced:
            return [self._replaced[key]]
        found = self.registry.recipes(key)
        own = [recipe for recipe in found if recipe.origin == "application"]
        return found if every or not own else own

    def _link(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.edges = [self._edge(node, each) for each in node.recipe.dependencies]
            self.faults.extend(node.recipe.faults)
        for node in nodes:
            for each in node.edges:
                if each.absent and not each.dependency.optional:
                    self.faults.append(self._missing(node, each))

    def _edge(self, node: Node, wanted: Dependency) -> Edge:
        found = self.find(wanted.key)
        if not found and wanted.element is not None:
            return Edge(wanted, self._every(node, wanted), many=True)
        if not found and wanted.key is logging.Logger:
            return Edge(wanted, logger=True)
        if len(found) > 1:
            self.faults.append(self._ambiguous(node, wanted, found))
        for target in found[-1:]:
            self._consumers.setdefault(target.recipe, node)
        return Edge(wanted, tuple(found[-1:]))

    def _every(self, node: Node, wanted: Dependency) -> tuple[Node, ...]:
        if wanted.element in self._replaced:
            family = [wanted.element]
        else:
            family = self.registry.family(wanted.element)
        recipes = dict.fromkeys(each for key in family for each in self._candidates(key, every=True))
        recipes = dict.fromkeys(sorted(recipes, key=lambda recipe: recipe.index))
        for recipe in recipes:
            self._consumers.setdefault(recipe, node)
        return tuple(self.nodes[recipe] for recipe in recipes)

    # ---- lifetimes

    def _settle(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.lifetime = node.stated or "scoped"
        self.faults.extend(self._cycles(nodes))
        reached = _reached(nodes)
        for node in nodes:
            path = reached[node]
            if node.stated is None:
                node.lifetime, node.cause = ("scoped", path) if path else ("singleton", ())
            elif node.lifetime == "singleton" and path:
                self.faults.append(self._captive(node, path))
        for node in nodes:
            if node.recipe.synchronous and (way := _way_to_await(node)):
                self.faults.append(_unawaited(node, way))

    def _cycles(self, nodes: list[Node]) -> Iterator[Fault]:
        done: set[Node] = set()
        for start in nodes:
            stack: list[tuple[Node, Iterator[tuple[Edge, Node]]]] = []
            way: dict[Node, Edge | None] = {}  # the nodes from the start to the present one, and how each was reached
            if start not in done:
                stack.append((start, _steps(start)))
                way[start] = None
            while stack:
                node, steps = stack[-1]
                step = next(steps, None)
                if step is None:
                    done.add(node)
                    stack.pop()
                    del way[node]
                    continue
                edge, target = step
                if target in way:
                    loop = [(each, above) for above, each in way.items()]
                    yield _cycle([*loop[list(way).index(target) :], (edge, target)])
                elif target not in done:
                    stack.append((target, _steps(target)))
                    way[target] = edge

    # ---- faults

    def _missing(self, node: Node, edge: Edge) -> Fault:
        wanted = edge.dependency
        lines = self._way_to(node)
        lines.append(f"{'   ' * (len(lines) - 1)}└─ {wanted.name}: {dotted(wanted.key)}   ← nothing provides it")
        return Fault(wanted.place, f"no provider for {dotted(wanted.key)}", tuple(lines), self.nearest(wanted.key))

    def _way_to(self, node: Node) -> list[str]:
        """The lines of the path from something that nobody asks for down to `node`."""
        chain = [node]
        while (consumer := self._consumers.get(chain[0].recipe)) is not None and consumer not in chain:
            chain.insert(0, consumer)
        steps: list[tuple[Edge | None, Node]] = [(None, chain[0])]
        for above, below in pairwise(chain):
            steps.append((next(edge for edge in above.edges if below in edge.targets), below))
        return _drawn(steps)

    def _ambiguous(self, node: Node, wanted: Dependency, found: list[Node]) -> Fault:
        lines = self._way_to(node)
        indent = "   " * (len(lines) - 1)
        lines.append(f"{indent}└─ {wanted.name}: {dotted(wanted.key)}")
        lines += [f"{indent}   · {each.name}" for each in found]
        return self.several(wanted.place, wanted.key, lines)

    def several(self, place: str, key: Any, lines: Sequence[str] = ()) -> Fault:
        """The fault of a key that is asked for singly, at `place`, and has several providers."""
        found = self.find(key)
        return Fault(
            place,
            f"{len(found)} providers for {dotted(key)}, and one is wanted",
            tuple(lines) or tuple(f"· {each.name}" for each in found),
            f'ask for list[{short(key)}], or tell them apart by name= and Annotated[…, Named("…")]',
        )

    def _captive(self, node: Node, path: Path) -> Fault:
        last = path[-1][1]
        what = "a context value" if last.recipe.kind is Kind.CONTEXT else "scoped"
        return Fault(
            node.name,
            f"is a singleton but would hold {last.name}, which is {what} and ends before it",
            tuple(_drawn([(None, node), *path])),
            f"drop lifetime= of {short(node.key)}, so that it becomes scoped, or open a scope where it is used",
        )

    def nearest(self, key: Any) -> str | None:
        """What to do about a key that nothing provides: the likeliest thing that was meant."""
        if key in _PLAIN:
            return "a plain value: give it a default, or provide a type of your own that holds it"
        known = [*self.registry, *(each for each in self._replaced if each not in self.registry)]
        for recipe in self.nodes:
            made = recipe.factory
            if isinstance(key, type) and isinstance(made, type) and key in made.__mro__[1:]:
                return f"{dotted(made)} is one: mark it @provider(of={short(key)})"
        # the last parts are compared: modules of one package make all dotted names alike
        by_short = {short(each): dotted(each) for each in known}
        close = difflib.get_close_matches(short(key), by_short, n=1, cutoff=0.6)
        if close:
            return f"did you mean {by_short[close[0]]}?"
        if isinstance(key, type):
            return f"mark {short(key)} or what implements it with @provider, in a module that is scanned"
        return None

    def is_replaced(self, key: Any) -> bool:
        """Whether an override stands for the key."""
        return key in self._replaced

    def asked(self, key: Any) -> bool:
        """Whether the key is provided, or asked for by anything."""
        return key in self.registry or any(
            edge.dependency.key == key or edge.dependency.element == key
            for node in self.nodes.values()
            for edge in node.edges
        )


def targets(node: Node) -> Iterator[Node]:
    """The nodes that a node needs directly."""
    return (target for edge in node.edges for target in edge.targets)


def _steps(node: Node) -> Iterator[tuple[Edge, Node]]:
    return ((edge, target) for edge in node.edges for target in edge.targets)


def bottom_up(starts: Iterable[Node], below: Callable[[Node], Iterator[Node]]) -> Iterator[Node]:
    """The starts and what is below them, each once and after what is below it, but for cycles; of any depth."""
    seen: set[Node] = set()
    for start in starts:
        waiting = [] if start in seen else [(start, below(start))]
        seen.add(start)
        while waiting:
            node, rest = waiting[-1]
            for target in rest:
                if target not in seen:
                    seen.add(target)
                    waiting.append((target, below(target)))
                    break
            else:
                waiting.pop()
                yield node


def _reached(nodes: list[Node]) -> dict[Node, Path]:
    """The path from each node to the nearest scoped thing that it would hold; empty if there is none."""
    reached: dict[Node, Path] = {}
    for node in bottom_up(nodes, lambda node: (each for each in targets(node) if each.stated in (None, "transient"))):
        best: Path = ()
        for edge, target in _steps(node):
            path: Path = ()
            if target.stated == "scoped":
                path = ((edge, target),)
            elif target.stated != "singleton" and (below := reached.get(target, ())):  # none in a cycle, told elsewhere
                path = ((edge, target), *below)
            if path and (not best or len(path) < len(best)):
                best = path
        reached[node] = best
    return reached


def _way_to_await(root: Node) -> Path:
    """The path from a root to the nearest thing that a scope must await; empty if there is none."""
    waiting: list[tuple[Node, Path]] = [(root, ())]
    seen = {root}
    for node, path in waiting:
        if node.recipe.kind.is_async:
            return path
        for edge, target in _steps(node):
            if target.lifetime != "singleton" and target not in seen:
                seen.add(target)
                waiting.append((target, (*path, (edge, target))))
    return ()


def _unawaited(node: Node, way: Path) -> Fault:
    return Fault(
        node.name,
        f"is a plain function but needs {way[-1][1].name}, which must be awaited",
        tuple(_drawn([(None, node), *way])),
        "make it an async function, or what it needs a singleton",
    )


def _drawn(steps: Sequence[tuple[Edge | None, Node]]) -> list[str]:
    lines: list[str] = []
    for depth, (edge, node) in enumerate(steps):
        state = "context value" if node.recipe.kind is Kind.CONTEXT else node.stated
        life = "" if state is None else f" ({state})"
        if edge is None:
            lines.append(f"{node.name}{life}")
        else:
            lines.append(f"{'   ' * (depth - 1)}└─ {edge.dependency.name}: {node.name}{life}")
    return lines


def _cycle(way: Sequence[tuple[Edge | None, Node]]) -> Fault:
    lines = _drawn([(None, way[0][1]), *way[1:]])
    width = max(map(len, lines)) + 3
    first, last = lines[0], lines[-1]
    drawn = [
        f"{first} ◄{'─' * (width - len(first) - 2)}╮",
        *(f"{line:<{width}}│" for line in lines[1:-1]),
        f"{last} {'─' * (width - len(last) - 1)}╯",
    ]
    return Fault(
        way[0][1].name,
        "needs itself: a cycle",
        tuple(drawn),
        "let one of them ask for less, or fetch the other when it is used",
    )

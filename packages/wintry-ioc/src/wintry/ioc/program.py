"""A graph that runs: its singletons, and the functions compiled from it.

A `Program` is made when a container is entered, and another one for each override; the container hands out one
`Plan` for a key and points it at the function of the program that is in force. An override's program takes over the
singletons of the one before it that reach nothing replaced, and builds the others anew.
"""

from __future__ import annotations

from typing import Any

from .errors import AsyncRequired, InjectionError, NotProvided
from .graph import Graph, Node
from .hints import dotted
from .plan import Compiled, awaits, compile_build, compile_root
from .registry import Kind, Recipe
from .scope import EXITS, Exits, Owner, Scope, finish, finish_nowait


class Program:
    """The singletons of a graph and its compiled roots."""

    def __init__(self, graph: Graph, owner: Owner, before: Program | None = None) -> None:
        self.graph = graph
        self.instances: dict[Recipe, object] = {}
        self._holder = Scope(owner)  # never current: it remembers what the singletons must finish
        self._holder.made = {}
        self._compiled: dict[Recipe, Compiled] = {}
        self._waiting = self._inherit(graph.singletons(), before)

    async def start(self) -> None:
        """Build the singletons in order. If one fails, those before it are finished and the error is raised."""
        try:
            for node in self._waiting:
                built = compile_build(node, self.instances)
                made = built.make(self._holder)
                self.instances[node.recipe] = await made if built.is_async else made
        except BaseException as error:
            await self.stop(error)
            raise

    def start_nowait(self) -> None:
        """`start` for a synchronous caller. Raises `AsyncRequired` before anything is built."""
        waiting = next((node for node in self._waiting if awaits(node, build=True)), None)
        if waiting is not None:
            raise AsyncRequired(f"{waiting.name} must be built anew, and that awaits: use `async with`")
        try:
            for node in self._waiting:
                self.instances[node.recipe] = compile_build(node, self.instances).make(self._holder)
        except BaseException as error:
            self.stop_nowait(error)
            raise

    async def stop(self, error: BaseException | None = None) -> None:
        """Finish the singletons in reverse order."""
        await finish(self._take_exits(), error)

    def stop_nowait(self, error: BaseException | None = None) -> None:
        """`stop` for a synchronous caller."""
        finish_nowait(self._take_exits(), error)

    def compiled(self, key: Any) -> Compiled:
        """The function of the one provider of a key. Raises `NotProvided` if there is none, or more than one."""
        return self.compiled_root(self._one(key).recipe)

    def compiled_root(self, recipe: Recipe) -> Compiled:
        """The function of a recipe, such as the parameters of an injected function."""
        ready = self._compiled.get(recipe)
        if ready is None:
            known = len(self.graph.faults)
            node = self.graph.root(recipe)
            if len(self.graph.faults) > known:
                faults = self.graph.faults[known:]
                del self.graph.faults[known:], self.graph.nodes[recipe]
                if len(faults) == 1 and recipe.synchronous and awaits(node):
                    raise AsyncRequired(str(faults[0]))
                raise InjectionError(faults)
            ready = self._compiled[recipe] = compile_root(node, self.instances)
        return ready

    def singleton(self, key: Any) -> object:
        """What was built for a key. Raises `NotProvided` if it is no singleton."""
        node = self._one(key)
        if node.lifetime != "singleton":
            raise NotProvided(f"{dotted(key)} is {node.lifetime}: ask a scope for it, `await scope.get(…)`")
        return node.recipe.factory if node.recipe.kind is Kind.VALUE else self.instances[node.recipe]

    def slots(self, key: Any) -> list[int]:
        """Where a scope keeps a key; nowhere if an override stands for it. Raises `NotProvided` if it is not scoped."""
        node = self._one(key)
        if node.lifetime == "scoped":
            return [node.recipe.index]
        if self.graph.is_replaced(key):
            return []
        raise NotProvided(f"{dotted(key)} is {node.lifetime}: a scope has its own value only of what is scoped")

    def source(self, key: Any) -> str:
        """The text of the function that makes a key or recipe; for a singleton, of the one that built it."""
        if isinstance(key, Recipe):
            return self.compiled_root(key).source
        node = self._one(key)
        if node.lifetime == "singleton" and node.recipe.kind is not Kind.VALUE:
            return compile_build(node, self.instances).source
        return self.compiled_root(node.recipe).source

    def _one(self, key: Any) -> Node:
        found = self.graph.find(key)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotProvided(missing(self.graph, key))
        names = ", ".join(node.name for node in found)
        raise NotProvided(f"{len(found)} providers for {dotted(key)} ({names}): ask for list[…] or by name")

    def _inherit(self, singletons: list[Node], before: Program | None) -> list[Node]:
        """Take over what the program before has and this one wires alike; the rest is left to build."""
        if before is None:
            return singletons
        waiting: list[Node] = []
        anew: set[Node] = set()
        for node in singletons:
            kept = node.recipe in before.instances and not _changed(node, before.graph, anew)
            if kept:
                self.instances[node.recipe] = before.instances[node.recipe]
            else:
                anew.add(node)
                waiting.append(node)
        return waiting

    def _take_exits(self) -> Exits:
        exits: Exits = self._holder.made.pop(EXITS, None) or Exits()
        return exits


def missing(graph: Graph, key: Any) -> str:
    """The message for a key that nothing provides."""
    hint = graph.nearest(key)
    return f"nothing provides {dotted(key)}" + (f": {hint}" if hint else "")


def _changed(node: Node, before: Graph, anew: set[Node]) -> bool:
    """Whether a node is wired otherwise than in the graph before, through any depth."""
    waiting, seen = [node], {node}
    while waiting:
        node = waiting.pop()
        old = before.nodes[node.recipe]
        for edge, old_edge in zip(node.edges, old.edges, strict=True):
            if [target.recipe for target in edge.targets] != [target.recipe for target in old_edge.targets]:
                return True
            for target in edge.targets:
                if target in anew:
                    return True
                if target.lifetime == "transient" and target not in seen:
                    seen.add(target)
                    waiting.append(target)
    return False

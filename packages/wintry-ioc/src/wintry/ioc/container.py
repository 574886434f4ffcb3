"""The container: what is registered, and the program that runs it.

Before it is entered a container is a list: registrations in a `Registry`, modules whose marks are collected into it,
faults found on the way. Entering it makes the `Graph`, refuses it if anything is wrong, and starts a `Program`. From
then on the registrations stand; only an override puts another program in force, and every `Plan` that was handed out
is pointed at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import Token
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, overload

from . import scan, show
from .errors import ContainerStateError, Fault, InjectionError, NotProvided, ScanError, report
from .errors import collecting as own_collecting
from .graph import Graph
from .hints import Dependency, Hint, dependency, dotted, key_of, returned
from .injection import Injection, current_container, injection_of
from .marks import Lifetime, Mark, factory_fault, mark_of
from .override import Override
from .plan import Plan
from .program import Program, missing
from .registry import Kind, Origin, Recipe, Registry, kind_of
from .scope import Refusal, Scope

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeForm

T = TypeVar("T")
Collecting = Callable[[], AbstractContextManager[list[Any]]]


class Container:
    """Wires what it is told of. Enter it with `async with`: it checks everything, then builds its singletons.

    Any number of containers live side by side; none is global.
    """

    def __init__(self) -> None:
        self.plans: dict[Any, Plan[Any]] = {}
        self.unentered = Refusal("was not entered", self.name_of)
        self.ended = Refusal("has ended", self.name_of)
        self._registry = Registry()
        self._recipes: dict[int, Recipe] = {}
        self._slots: dict[Any, list[int]] = {}
        self._roots: dict[Any, Recipe] = {}  # injected functions and lists, which nobody provides
        self._modules: dict[str, ModuleType] = {}
        self._collected: set[Any] = set()
        self._faults: list[object] = []
        self._failed: list[tuple[Fault, Exception | SystemExit]] = []
        self._replaced: dict[Any, Recipe] = {}
        self._program: Program | None = None
        self._starting = False
        self._overrides: list[Override] = []
        self._token: Token[Container | None] | None = None

    # ---- what is registered

    @classmethod
    def scan(cls, package: str, exclude: Iterable[str] = (), collecting: Iterable[Collecting] = ()) -> Self:
        """A container with the marked providers of a package; see `load` for the parameters.

        Raises `ScanError` if modules could not be imported, after all others were.
        """
        container = cls()
        container.load(package, exclude, collecting)
        failed = container._failed
        if failed:
            error = ScanError([fault for fault, _ in failed])
            raise error from (
                failed[0][1] if len(failed) == 1 else BaseExceptionGroup(str(error), [e for _, e in failed])
            )
        return container

    def load(self, package: str, exclude: Iterable[str] = (), collecting: Iterable[Collecting] = ()) -> None:
        """Import a package's modules in sorted order, and collect their marks.

        `__main__`, `tests`, `conftest`, `migrations`, what `exclude` names, and modules that are being imported right
        now are not imported (the last are collected from all the same). `collecting` holds the functions of that name
        of other libraries; what they catch, and what could not be imported, joins `faults`. Nothing is raised.
        """
        self._unstarted("load modules")
        with ExitStack() as stack:
            lists = [stack.enter_context(each()) for each in (own_collecting, *collecting)]
            loaded = scan.load(package, exclude)
        self._failed.extend(zip(loaded.faults, loaded.errors, strict=True))
        self._faults.extend([*loaded.faults, *(fault for each in lists for fault in each)])
        self._modules.update((module.__name__, module) for module in loaded.modules)
        self.collect()

    def collect(self) -> None:
        """Register the marked definitions of the loaded modules that are not registered yet.

        Imports nothing. A definition belongs to the module that its `__module__` names.
        """
        self._unstarted("collect marks")
        for module in self._modules.values():
            for value in tuple(vars(module).values()):
                if getattr(value, "__module__", None) != module.__name__ or not callable(value):
                    continue
                mark, injection = mark_of(value), injection_of(value)
                if (mark is None and injection is None) or value in self._collected:
                    continue
                self._collected.add(value)
                if mark is not None:
                    self._register_marked(value, mark)
                if injection is not None:
                    self._root(injection)

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The modules that were loaded, in order, with any that was being imported at that time."""
        return tuple(self._modules.values())

    def register(
        self,
        key: Any,
        factory: Callable[..., Any] | None = None,
        *,
        lifetime: Lifetime | None = None,
        name: str | None = None,
        origin: Origin = "application",
    ) -> None:
        """Provide `key` by a class, function, async function or (async) generator; without a factory by itself.

        `lifetime` and `name` as in `provider`. Several providers of one key are kept in order; those of the
        application stand before those of a library where one is wanted. Raises `ContainerStateError` once entered,
        `DefinitionError` for a factory that cannot be called or an unknown lifetime.
        """
        self._unstarted("register")
        made = key if factory is None else factory
        fault = factory_fault(made, lifetime)
        if fault is not None:
            report(fault)
            return
        self._add([key_of(key, name)], self._recipe(made, kind_of(made), origin, automatic=lifetime is None), lifetime)

    def register_value(
        self, key: Any, value: object, *, name: str | None = None, origin: Origin = "application"
    ) -> None:
        """Provide `key` by an object that exists: a singleton that the container does not finish."""
        self._unstarted("register")
        self._add([key_of(key, name)], self._recipe(value, Kind.VALUE, origin, dotted(key)), "singleton")

    def register_context(self, key: Any) -> None:
        """Announce that scopes will be given a `key` by `scope.provide`; what needs it is scoped."""
        self._unstarted("register")
        self._add([key_of(key)], self._recipe(key, Kind.CONTEXT, "application", dotted(key)), "scoped")

    def provides(self, key: Any) -> bool:
        """Whether something is registered under a key: a provider, a value or a context value."""
        return key_of(key) in self._registry

    def subclasses(self, base: type[T]) -> list[type[T]]:
        """The provided classes that derive from `base`, in order; `scope.get` takes each."""
        return [
            key
            for key in self._registry
            if isinstance(key, type)
            and base in key.__mro__
            and any(each.factory is key or not isinstance(each.factory, type) for each in self._registry.recipes(key))
        ]

    # ---- faults

    @property
    def faults(self) -> list[object]:
        """All that is wrong: found while loading, added by others, and in the graph as it stands."""
        return [*self._faults, *self._graph_faults(self._program.graph if self._program else self._graph())]

    def add_faults(self, faults: Iterable[object]) -> None:
        """Let faults found elsewhere stand in the same report; each shows as its `str()`."""
        self._faults.extend(faults)

    def validate(self) -> None:
        """Raise `InjectionError` with every fault, if there is any."""
        faults = self.faults
        if faults:
            raise InjectionError(faults)

    # ---- life

    async def __aenter__(self) -> Self:
        """Check everything, then build the singletons in order. Raises `InjectionError` before anything is built."""
        if self._program is not None or self._starting:
            raise ContainerStateError("the container is entered already: leave it first, or make another one")
        graph = self._graph()
        faults = [*self._faults, *self._graph_faults(graph)]
        if faults:
            raise InjectionError(faults)
        program = Program(graph, self)
        self._starting = True
        try:
            await program.start()
            try:
                self._run(program)
            except BaseException as error:
                self._run(None)
                await program.stop(error)
                raise
        finally:
            self._starting = False
        self._token = current_container.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        program, token = self._running(), self._token
        if token is not None:
            try:
                current_container.reset(token)
            except ValueError:
                pass  # left in another context than it was entered in, as some test fixtures are
        self._run(None)
        await program.stop(error)

    def scope(self) -> Scope:
        """A new scope, to be entered. Raises `ContainerStateError` if the container is not entered."""
        if self._program is None:
            self._running()
        return Scope(self)

    @overload
    def get(self, key: type[T], /) -> T: ...
    @overload
    def get(self, key: TypeForm[T], /) -> T: ...
    def get(self, key: Any, /) -> Any:
        """A singleton or value. Raises `NotProvided` if there is none: what is scoped is asked of a scope."""
        return self._running().singleton(key_of(key))

    def override(self, values: Mapping[Any, object]) -> Override:
        """Replace keys by ready objects inside `with` or `async with`; compiled plans see it.

        Singletons that reach a replaced key are built anew inside, and finished at its end; if one of them awaits,
        `async with` is needed. A container that is entered inside has the replacement from its start to its end.
        Raises `NotProvided` for a key that nothing provides and nothing asks for.
        """
        return Override(self, values)

    # ---- compiled ways

    @overload
    def compile(self, key: type[T], /) -> Plan[T]: ...
    @overload
    def compile(self, key: TypeForm[T], /) -> Plan[T]: ...
    def compile(self, key: Any, /) -> Plan[Any]:
        """The plan of a key: `plan.make(scope)` is the fastest way to it. Before start it is bound when entered.

        Raises `NotProvided` if the container is entered and nothing, or more than one thing, provides the key.
        """
        found = self.plans.get(key)
        if found is None:
            found = Plan(key, _refuse(key))
            if self._program is not None:
                self._bind(found, self._program)
            self.plans[key] = found
        return found

    def plan(self, key: Any) -> str:
        """The generated source that makes a key; for a singleton, the one that built it."""
        program = self._running()
        recipe = self._target(key)
        return program.source(key_of(key) if recipe is None else recipe)

    def tree(self, key: Any) -> str:
        """What a key is made of, as a tree with lifetimes, and what made the automatic ones scoped."""
        return show.tree(self._shown(key))

    def mermaid(self) -> str:
        """The whole graph as a Mermaid flowchart."""
        graph = self._program.graph if self._program else self._graph()
        return show.mermaid(graph)

    # ---- what scopes ask

    def slots(self, key: Any) -> list[int]:
        """Where a scope keeps its own value of a key. Raises `NotProvided` if the key is unknown or not scoped."""
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = self._running().slots(key_of(key))
        return found

    def name_of(self, index: int) -> str:
        """What is kept at a place of a scope."""
        return self._recipes[index].place

    # ---- inside

    def _recipe(
        self, factory: Any, kind: Kind, origin: Origin, place: str | None = None, *, automatic: bool = False
    ) -> Recipe:
        index = self._registry.next_index()
        recipe = Recipe(factory, kind, index, automatic=automatic, origin=origin, place=place)
        self._recipes[recipe.index] = recipe
        return recipe

    def _add(self, keys: Sequence[Any], recipe: Recipe, lifetime: Lifetime | None) -> None:
        for key in keys:
            self._registry.add(key, recipe, lifetime or "scoped")

    def _register_marked(self, value: Any, mark: Mark) -> None:
        if isinstance(value, type):
            keys = [key_of(value, mark.name)] if mark.of is None else [value, key_of(mark.of, mark.name)]
        else:
            try:
                keys = [key_of(returned(value) if mark.of is None else mark.of, mark.name)]
            except Exception as error:  # noqa: BLE001 - an annotation is an expression, and may raise anything
                self._faults.append(Fault(dotted(value), f"its return annotation cannot be resolved: {error}"))
                return
        recipe = self._recipe(value, kind_of(value), "application", automatic=mark.lifetime is None)
        self._add(keys, recipe, mark.lifetime)

    def _target(self, key: Any) -> Recipe | None:
        """The recipe behind a key that only this container can make up: an injected function, a list of all."""
        if isinstance(key, Injection) or (get_origin(key) is list and key not in self._registry):
            return self._root(key)
        return None

    def _root(self, key: Any) -> Recipe:
        found = self._roots.get(key)
        if found is None:
            place = dotted(key.function) if isinstance(key, Injection) else dotted(key)
            if isinstance(key, Injection):
                read = [dependency(hint) for hint in key.hints]
                asked = tuple(each for each in read if isinstance(each, Dependency))
                faults = [each for each in read if isinstance(each, Fault)]
                factory: Any = dict
            else:
                wanted = dependency(Hint("items", key, place, {}))
                asked, faults, factory = ((wanted,) if isinstance(wanted, Dependency) else ()), [], _listed
            found = Recipe(factory, Kind.CALL, self._registry.next_index(), place=place, asked=asked)
            found.faults = faults
            found.synchronous = isinstance(key, Injection) and not key.is_async
            self._recipes[found.index] = self._roots[key] = found
        return found

    def _graph(self) -> Graph:
        return Graph(self._registry, self._replaced, tuple(self._roots.values()))

    def _graph_faults(self, graph: Graph) -> list[Fault]:
        """The faults of a graph, and of plans that were asked for and have no provider in it, or several."""
        faults = list(graph.faults)
        for key in self.plans:
            if self._target(key) is not None:
                continue
            found = graph.find(key_of(key))
            if not found:
                faults.append(Fault(dotted(key), "is asked for, and nothing provides it", (), graph.nearest(key)))
            elif len(found) > 1:
                faults.append(graph.several(dotted(key), key_of(key)))
        return faults

    def _shown(self, key: Any) -> Any:
        graph = self._program.graph if self._program else self._graph()
        found = graph.find(key_of(key))
        if not found:
            raise NotProvided(missing(graph, key))
        return found[-1]

    def _run(self, program: Program | None) -> None:
        """Put a program in force: every plan is pointed at it."""
        self._program = program
        self._slots = {}
        for plan in self.plans.values():
            if program is None:
                plan.make = _refuse(plan.key)
            else:
                self._bind(plan, program)

    def _bind(self, plan: Plan[Any], program: Program) -> None:
        recipe = self._target(plan.key)
        compiled = program.compiled(key_of(plan.key)) if recipe is None else program.compiled_root(recipe)
        plan.make, plan.is_async, plan.source = compiled.make, compiled.is_async, compiled.source

    def _running(self) -> Program:
        if self._program is None:
            raise ContainerStateError("the container is not entered: use it inside `async with container:`")
        return self._program

    def _unstarted(self, what: str) -> None:
        if self._program is not None or self._starting:
            raise ContainerStateError(f"the container is entered: {what} before `async with container:`")


def _listed(items: list[Any]) -> list[Any]:
    return items


def _refuse(key: Any) -> Callable[[Scope], Any]:
    def make(scope: Scope) -> Any:
        raise ContainerStateError(f"{dotted(key)} was asked for before its container was entered, or after it ended")

    return make

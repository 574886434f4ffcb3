"""Keys of a container that are replaced by ready objects for a while.

An override makes a program of its own, in which singletons that reach a replaced key are built anew, and puts it in
force; at its end the program that was there before is in force again. Overrides nest, so each keeps what it found.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import ContainerStateError, NotProvided
from .hints import dotted, key_of
from .program import Program, missing
from .registry import Kind, Recipe

if TYPE_CHECKING:
    from typing import Self

    from .container import Container


class Override:
    """Keys replaced by ready objects for a while; made by `Container.override`. Entered once.

    Overrides nest, and end in reverse. One that ends before those entered after it takes its values out from below
    them and raises `ContainerStateError`, so that nothing stays replaced.
    """

    def __init__(self, container: Container, values: Mapping[Any, object]) -> None:
        self._container = container
        self._values = values
        self._before: dict[Any, Recipe] = {}
        self._program: Program | None = None

    def __enter__(self) -> Self:
        program = self._replace()
        if program is not None:
            with self._undone_on_error():
                program.start_nowait()
                try:
                    self._container._run(program)
                except BaseException as error:
                    self._container._run(self._program)
                    program.stop_nowait(error)
                    raise
        self._container._overrides.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        program, later = self._restore()
        if program is not None:
            program.stop_nowait(error)
        if later is not None:
            raise _crossed(self, later)

    async def __aenter__(self) -> Self:
        program = self._replace()
        if program is not None:
            with self._undone_on_error():
                await program.start()
                try:
                    self._container._run(program)
                except BaseException as error:
                    self._container._run(self._program)
                    await program.stop(error)
                    raise
        self._container._overrides.append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        program, later = self._restore()
        if program is not None:
            await program.stop(error)
        if later is not None:
            raise _crossed(self, later)

    def _replace(self) -> Program | None:
        """The program of the replaced graph, not started; None if the container is not entered."""
        container = self._container
        if self in container._overrides:
            raise ContainerStateError("the override is entered already: ask the container for another one")
        graph = container._program.graph if container._program else container._graph()
        for key in self._values:
            if not graph.asked(key_of(key)):
                raise NotProvided(f"an override of what nothing provides or asks for: {missing(graph, key)}")
        self._before, self._program = container._replaced, container._program
        container._replaced = {**self._before, **{key_of(key): self._value(key) for key in self._values}}
        if self._program is None:
            return None
        return Program(container._graph(), container, self._program)  # objects need nothing: no new fault can be in it

    def _value(self, key: Any) -> Recipe:
        place = f"{dotted(key)} (override)"
        return self._container._recipe(self._values[key], Kind.VALUE, "application", place)

    def _restore(self) -> tuple[Program | None, Override | None]:
        """Put back what was there. The program to be finished, if there is one; the override still open above, if any."""
        container, stack = self._container, self._container._overrides
        place = stack.index(self)
        del stack[place]
        if place < len(stack):
            above = stack[place]
            ended, above._before, above._program = above._program, self._before, self._program
            return (None if self._program is None else ended), above
        ended, container._replaced = container._program, self._before
        if self._program is None or ended is None:
            return None, None
        container._run(self._program)
        return ended, None

    @contextmanager
    def _undone_on_error(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self._container._replaced = self._before
            raise


def _crossed(ended: Override, later: Override) -> ContainerStateError:
    first, second = (", ".join(map(dotted, each._values)) for each in (ended, later))
    return ContainerStateError(
        f"the override of {first} ended before that of {second}, which was entered after it: "
        "give tasks that override at the same time a container each"
    )

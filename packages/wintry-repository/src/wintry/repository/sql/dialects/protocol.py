"""What one database must say of itself: how it is reached (`Dialect`), and how it says things in SQL (`Expressions`).

Everything else in this backend is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ..statements import Row, Step

Column: TypeAlias = "sa.ColumnElement[Any]"
Condition: TypeAlias = "sa.ColumnElement[bool]"
Convert: TypeAlias = "Callable[[Any], Any]"
Bind: TypeAlias = "Callable[[str, Convert], sa.BindParameter[Any]]"
"""Makes a parameter of a name; what it is bound to is made of the value that the query was called with."""


class Expressions(Protocol):
    """Where databases differ in what is compiled. A value of None never reaches an encoder or a decoder."""

    returns_guards: bool
    """Whether guarded statements return the keys of the rows that they have changed."""

    def encoder(self, kind: type) -> Convert | None:
        """How a value of this type is bound to a column; None: as it is."""
        ...

    def item_encoder(self, kind: type) -> Convert | None:
        """How a value is bound that is compared with an item of a list of scalars; None: as it is."""
        ...

    def parameter(self, kind: type, *, item: bool) -> sa.types.TypeEngine[Any] | None:
        """The type that a parameter has in the text; None: none is written. `item` as in `item_encoder`."""
        ...

    def decoder(self, kind: type, *, nested: bool = False) -> Convert | None:
        """What makes a Python value of a column's; `nested`: one inside an array. None: it is one."""
        ...

    def scalars_decoder(self, kind: type, *, nested: bool) -> Convert | None:
        """The same for a list of scalars."""
        ...

    def array_decoder(self, *, nested: bool) -> Convert | None:
        """What makes a list of rows of an array's value; None: it is one."""
        ...

    def nested(self, column: Column, kind: type) -> Column:
        """A value inside an array."""
        ...

    def nested_scalars(self, column: Column) -> Column:
        """A list of scalars inside an array."""
        ...

    def array(
        self, values: Sequence[Column], belongs: Sequence[Condition], parent: sa.Table, *, nested: bool
    ) -> Column:
        """The rows of a child's table that belong to a row of `parent`, in any order."""
        ...

    def items(self, column: Column, kind: type, name: str) -> tuple[sa.FromClause, Column]:
        """The items of a list of scalars as a table called `name`, and the value of one."""
        ...

    def same(self, value: Column, argument: sa.BindParameter[Any]) -> Condition:
        """Whether both are equal or both None; where an index finds `value`, it finds it here."""
        ...

    def among(self, value: Column, kind: type, name: str, bind: Bind, *, item: bool) -> Condition:
        """Whether `value` is one of many; `item`: it is one of a list of scalars."""
        ...

    def flag(self, argument: sa.BindParameter[Any]) -> Condition:
        """A parameter that is True or False, as a condition."""
        ...

    def keys(self, key: Sequence[sa.Column[Any]], kinds: Sequence[type]) -> Condition:
        """Whether `key` is among many; the parameters are those of `keys_row`, in their order."""
        ...

    def keys_row(self, keys: Sequence[Row], kinds: Sequence[type]) -> Row:
        """The parameters of `keys` for encoded keys."""
        ...

    def order(self, column: Column, *, descending: bool, optional: bool) -> Column:
        """A key to sort by, None first ascending and last descending."""
        ...

    def parked(self, column: sa.Column[Any], argument: sa.BindParameter[Any]) -> Column:
        """A value of `parking` as a value of `column`."""
        ...

    def parking(self, kind: type, number: int) -> Any:
        """A value that no field of this type can have."""
        ...


class Dialect(Protocol):
    """One database: its types, its connections, and how statements run there."""

    @property
    def kind(self) -> str:
        """Its name: "sqlite", "postgresql"."""
        ...

    @property
    def isolations(self) -> tuple[str, ...]:
        """The isolations that `begin` knows, beside its default."""
        ...

    @property
    def locks(self) -> bool:
        """Whether rows can be locked: where only one may write at a time, nothing is left to lock."""
        ...

    @property
    def remote(self) -> bool:
        """Whether it may be lost in the middle of a commit, so that nobody knows what became of it."""
        ...

    @property
    def table_options(self) -> Mapping[str, Any]:
        """Options of the tables of children."""
        ...

    @property
    def types(self) -> Mapping[type, sa.types.TypeEngine[Any]]:
        """The column type of each Python type."""
        ...

    @property
    def expressions(self) -> Expressions:
        """How it says things."""
        ...

    @property
    def compiler(self) -> sa.Dialect:
        """What SQLAlchemy compiles with."""
        ...

    def engine(self, *, read_only: bool) -> AsyncEngine:
        """The pool that an execution's connection comes from."""
        ...

    async def connect(self, *, read_only: bool) -> sa.Connection:
        """A connection of its pool; SQLAlchemy's own transaction on it begins and ends nothing."""
        ...

    def give_back(self, connection: sa.Connection, *, shared: bool) -> None:
        """Have back a connection of `connect` on which nothing is open; `shared`: others than its execution had it."""
        ...

    def begin(
        self, *, read_only: bool, isolation: str | None = None, timeout: float | None = None, schema: bool = False
    ) -> str:
        """The statement that begins a transaction; `schema`: one that may change tables, and is the only one."""
        ...

    def limit(self, driver: Any, deadline: float | None) -> None:
        """Statements on `driver` end at `deadline`, a time of the event loop, if nothing else ends them."""
        ...

    async def wait(self) -> None:
        """Wait for a writer's turn."""
        ...

    def leave(self) -> None:
        """Let the next writer in."""
        ...

    async def open(self) -> None:
        """See that it can be reached. Raises `Unreachable`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    async def fetch(self, driver: Any, begin: str | None, text: str, row: Row) -> list[Row]:
        """The rows of a query; `begin` runs before it."""
        ...

    async def change(self, driver: Any, begin: str | None, text: str, row: Row) -> int:
        """How many rows a statement has changed; `begin` runs before it."""
        ...

    async def apply(self, driver: Any, begin: str | None, steps: Sequence[Step]) -> None:
        """Run all steps; `begin` runs before them. Raises `Refused`."""
        ...

    async def send(self, driver: Any, text: str | None) -> None:
        """Run one statement without values, if there is one."""
        ...

    async def undo(self, driver: Any) -> None:
        """Roll back what is open once all that was sent before has run. A cancellation does not stop it."""
        ...

    async def interrupt(self, driver: Any) -> None:
        """Stop what runs on `driver`."""
        ...

    def translate(self, error: Exception) -> Exception:
        """The error of the taxonomy that an error of the driver means."""
        ...

    def taken(self, error: Exception | None) -> tuple[str, tuple[str, ...]] | None:
        """Table and columns of a unique value that is taken, if `error` says so."""
        ...

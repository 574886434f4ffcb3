"""A method name → every way to read it.

The parser asks the Model first: where a path may stand it tries each field whose name fits there, and where several
do, all of them; so a field called `order_by_date`, `opt_in` or `terms_and_conditions` reads as one. It backtracks
through generators, one method per rule of the grammar, and each yields (what was read, where it ends):

    name  = verb [limit] ["_by_" terms] ["_order_by_" keys] ["_for_update"]
    limit = "_first" ["_" N] | "_top" ["_" N] | "_one" | "_all"
    terms = term {("_and_" | "_or_") term}
    term  = ["not_"] path ["_" [is_] [not_] operator]
    path  = field {"__" field}
    keys  = path ["_asc" | "_desc"] {["_and"] "_" path ["_asc" | "_desc"]}

Every place where a rule finds nothing is noted. Where no reading comes out, the furthest of these places is where the
name went wrong, and `Failure` says what could have stood there. Which of several readings is meant is decided by the
signature of the method (`signature.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from wintry.models import info
from wintry.models.kinds import ArrayOf, Leaf, Nested

from .operators import SPELLINGS, Operator, spelling
from .tree import Key, Path, Reading, Term, Verb

if TYPE_CHECKING:
    from wintry.models import Model

VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        **dict.fromkeys(("get", "find", "list", "read", "query", "search", "fetch"), "find"),
        **dict.fromkeys(("delete", "remove"), "delete"),
        "count": "count",
        "exists": "exists",
    }
)
"""What a method name may begin with: what it does."""

_verb: Final = re.compile(rf"({'|'.join(VERBS)})(?=_|$)")
_limit: Final = re.compile(r"_(?:(?:first|top)(?:_?(?P<count>\d+))?|(?P<one>one)|(?P<all>all))(?=_|$)")
_connector: Final = re.compile(r"_and_|_or_|_order_by_|__|$")
_time_words: Final = frozenset({"before", "after"})
_LOCKING: Final = "_for_update"

Groups: TypeAlias = tuple[tuple[Term, ...], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why a name cannot be read: `word`, at `start`, is not what may stand there.

    `nearest` is the good word that it looks like, and `repaired` the whole name with it.
    """

    start: int
    word: str
    reason: str
    nearest: str | None = None
    repaired: str | None = None


def parse(name: str, model: type[Model]) -> tuple[list[Reading], Failure | None]:
    """Every reading of `name` over `model`; with none, why there is none.

    Raises NameError where a hint of the Model cannot be resolved yet.
    """
    parser = _Parser(name, model)
    readings = list({str(reading): reading for reading in parser.readings()}.values())
    failure = None if readings else parser.failure()
    if name.endswith(_LOCKING):  # which may be the end of a field's name as well
        locking, failed = parse(name.removesuffix(_LOCKING), model)
        readings += [replace(reading, locked=True) for reading in locking]
        failure = failed and replace(failed, repaired=failed.repaired and failed.repaired + _LOCKING)
    return readings, None if readings else failure


class _Parser:
    def __init__(self, text: str, model: type[Model]) -> None:
        self.text = text
        self.model = model
        self._failures: list[tuple[int, str, tuple[str, ...]]] = []
        self._terms: dict[int, list[tuple[Groups, int]]] = {}

    def readings(self) -> Iterator[Reading]:
        head = _verb.match(self.text)
        if head is None:
            self._expect(0, "a derived query begins with a verb", tuple(VERBS))
            return
        word, verb, position = head[1], VERBS[head[1]], head.end()
        limit, single = None, False
        if clause := _limit.match(self.text, position):
            position = clause.end()
            single = clause["one"] is not None
            if clause["all"] is None and not single:
                limit = int(clause["count"] or 1)
                if limit == 0:
                    self._expect(clause.start("count"), "first_0 would find nothing", ())
                    return
        if self._at(position, "_by_"):
            for groups, end in self.terms(position + 4):
                for order in self.order(end, ("_and_", "_or_")):
                    yield Reading(word, verb, limit, single, groups, order)
        else:
            for order in self.order(position, ()):
                yield Reading(word, verb, limit, single, None, order)

    def terms(self, position: int) -> list[tuple[Groups, int]]:
        """The conditions that begin at `position`; remembered, since several readings may meet here again."""
        if position not in self._terms:
            self._terms[position] = list(self._conditions(position))
        return self._terms[position]

    def _conditions(self, position: int) -> Iterator[tuple[Groups, int]]:
        for term, end in self.term(position):
            yield ((term,),), end
            if self._at(end, "_and_"):
                for groups, after in self.terms(end + 5):
                    yield ((term, *groups[0]), *groups[1:]), after
            if self._at(end, "_or_"):
                for groups, after in self.terms(end + 4):
                    yield ((term,), *groups), after

    def term(self, position: int) -> Iterator[tuple[Term, int]]:
        for excluded in (False, True):
            start = position + 4 * excluded
            if excluded and not self._at(position, "not_"):
                return
            for path, end in self.path(start, self.model):
                for operator, negated, after in self.operation(path, end):
                    yield Term(path, operator, excluded, negated, self.text[end + 1 : after]), after

    def path(self, position: int, model: type[Model]) -> Iterator[tuple[Path, int]]:
        found = False
        for field in info(model).fields:
            end = position + len(field.name)
            if not self._at(position, field.name) or self.text[end : end + 1] not in ("", "_"):
                continue
            found = True
            yield (field,), end
            if self._at(end, "__"):
                inner = field.kind.item if isinstance(field.kind, ArrayOf) else field.kind
                if isinstance(inner, Nested):
                    for rest, after in self.path(end + 2, inner.model):
                        yield (field, *rest), after
                else:
                    self._expect(end + 2, f"{model.__name__}.{field.name} has no fields of its own", ())
        if not found:
            names = tuple(field.name for field in info(model).fields)
            self._expect(position, f"{model.__name__} has no field", names)

    def operation(self, path: Path, position: int) -> Iterator[tuple[Operator, bool, int]]:
        """What may follow a path that ends at `position`: operator, whether it is negated, end."""
        kind = path[-1].kind
        leaf = kind.item if isinstance(kind, ArrayOf) else kind
        if self._at_connector(position):
            if isinstance(leaf, Leaf):
                yield Operator.EQ, False, position
            else:
                self._inside(path, leaf, position)
        if not self._at(position, "_") or self._at(position, "__"):
            return
        found = False
        for end in self._word_ends(position + 1):
            word = self.text[position + 1 : end]
            meaning = _operation(word)
            if meaning is None:
                continue
            found = True
            operator, negated = meaning
            if isinstance(leaf, Nested):
                if isinstance(kind, Nested) and operator.absence:
                    yield operator, negated, end
                else:
                    self._inside(path, leaf, position + 1)
            elif operator.absence and isinstance(kind, ArrayOf) and not _may_be_none(path):
                reason = f"{path[-1].name} is a list that is never None: compare its values"
                self._expect(position + 1, reason, ())
                self._expect(end - len(word.rpartition("_")[2]), reason, ())  # as far as a shorter word was read
            elif word.rpartition("_")[2] in _time_words and leaf.type not in (date, datetime):
                self._expect(position + 1, f"'{word}' compares dates, and {path[-1].name} is not one", ("lt", "gt"))
            else:
                yield operator, negated, end
        if not found:
            self._not_an_operator(path, position)

    def order(self, position: int, joints: tuple[str, ...]) -> Iterator[tuple[Key, ...]]:
        """The sort keys from `position` to the end of the name, () where it ends here; `joints` are read elsewhere."""
        if position == len(self.text):
            yield ()
        elif self._at(position, "_order_by_"):
            yield from self.keys(position + 10)
        elif not any(self._at(position, joint) for joint in joints):
            words = ("order_by", "and", "or") if joints else ("by", "order_by")
            self._expect(position + 1, "here the name may go on with", words)

    def keys(self, position: int) -> Iterator[tuple[Key, ...]]:
        for path, end in self.path(position, self.model):
            if not self._sortable(path, position):
                continue
            for direction in ("_asc", "_desc", ""):
                after = end + len(direction)
                if not self._at(end, direction) or self.text[after : after + 1] not in ("", "_"):
                    continue
                key = Key(path, direction == "_desc")
                if after == len(self.text):
                    yield (key,)
                    continue
                for joint in ("_and_", "_"):
                    if self._at(after, joint):
                        for rest in self.keys(after + len(joint)):
                            yield (key, *rest)

    def failure(self) -> Failure:
        """The furthest place at which a rule found nothing."""
        start = max(position for position, _, _ in self._failures)
        here = [(reason, names) for position, reason, names in self._failures if position == start]
        candidates = [name for _, names in here for name in names]
        stop = _connector.search(self.text, start)
        whole = self.text[start : stop.start() if stop else len(self.text)]
        nearest, word = _nearest(whole, candidates)
        repaired = None
        if nearest is not None:
            repaired = self.text[:start] + nearest + self.text[start + len(word) :]
        reason = self._reason(word, here)
        return Failure(start, word, reason, nearest, repaired)

    def _reason(self, word: str, here: Sequence[tuple[str, tuple[str, ...]]]) -> str:
        reason, names = min(here, key=lambda each: bool(each[1]))  # what lists nothing says more
        if not names:
            return reason
        listed = ", ".join(names) if len(names) <= 12 else ", ".join(names[:12]) + ", …"
        return f"{reason} '{word}'" if reason.endswith("has no field") else f"{reason}: {listed}; not '{word}'"

    def _inside(self, path: Path, leaf: Nested, position: int) -> None:
        name, model = "__".join(step.name for step in path), leaf.model
        example = f"{name}__{info(model).fields[0].name}"
        self._expect(position, f"{name} holds {model.__name__}: compare one of its fields, such as {example}", ())

    def _sortable(self, path: Path, position: int) -> bool:
        for step in path:
            if isinstance(step.kind, ArrayOf):
                self._expect(position, f"rows cannot be sorted by a list, and {step.name} is one", ())
                return False
        if isinstance(path[-1].kind, Nested):
            self._inside(path, path[-1].kind, position)
            return False
        return True

    def _not_an_operator(self, path: Path, position: int) -> None:
        """What follows is no operator; often it is a field of what the path holds, with one `_` in place of two."""
        kind = path[-1].kind
        inner = kind.item if isinstance(kind, ArrayOf) else kind
        if isinstance(inner, Nested):
            for field in info(inner.model).fields:
                if self._at(position + 1, field.name):
                    nested = f"{path[-1].name}__{field.name}"
                    reason = f"{field.name} is a field of {inner.model.__name__}: write {nested}, with two underscores"
                    self._expect(position + 1, reason, ())
                    return
            names = tuple(f"_{field.name}" for field in info(inner.model).fields)
            self._expect(
                position + 1, f"after {path[-1].name} there may stand a field of {inner.model.__name__}", names
            )
        else:
            names = tuple(operator.value for operator in Operator)
            self._expect(position + 1, f"after {path[-1].name} there may stand an operator", names)

    def _expect(self, position: int, reason: str, names: tuple[str, ...]) -> None:
        self._failures.append((position, reason, names))

    def _at(self, position: int, text: str) -> bool:
        return self.text.startswith(text, position)

    def _at_connector(self, position: int) -> bool:
        return position == len(self.text) or any(self._at(position, text) for text in ("_and_", "_or_", "_order_by_"))

    def _word_ends(self, position: int) -> Iterator[int]:
        """Where a word of one or more parts that begins at `position` can end."""
        end = position
        while end < len(self.text):
            stop = self.text.find("_", end + 1)
            end = len(self.text) if stop == -1 else stop
            yield end


def _may_be_none(path: Path) -> bool:
    """Whether the value at the end of `path` can be None, for an element of the last list on the way."""
    for step in reversed(path[:-1]):
        if isinstance(step.kind, ArrayOf):
            break
        if step.optional:
            return True
    return path[-1].optional


def _operation(word: str) -> tuple[Operator, bool] | None:
    """The operator that `word` spells, and whether a `not` before it remains to be applied."""
    operator = spelling(word)
    if operator is not None:
        return operator, False
    rest = word.lower().removeprefix("is_")
    if rest.startswith("not"):
        rest = rest.removeprefix("not").removeprefix("_")
        operator = spelling(rest)
        return None if operator is None else (operator, True)
    operator = spelling(rest)
    return None if operator is None else (operator, False)


def _nearest(text: str, names: Sequence[str]) -> tuple[str | None, str]:
    """The name that the beginning of `text` looks like, and how far that beginning goes."""
    candidates = dict.fromkeys((*names, *SPELLINGS)) if Operator.EQ.value in names else dict.fromkeys(names)
    best, found, cut = 0.6, None, text
    ends = [*(match.start() for match in re.finditer("_", text) if match.start()), len(text)]
    for end in ends:
        for name in candidates:
            ratio = SequenceMatcher(None, text[:end], name).ratio()
            if ratio > best:
                best, found, cut = ratio, name, text[:end]
    return found, cut

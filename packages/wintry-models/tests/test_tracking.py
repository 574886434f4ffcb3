"""Snapshot, diff and change set."""

import copy as standard_copy
import json
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from wintry.models import (
    Array,
    DuplicateChild,
    IdentityChanged,
    InvalidValue,
    Model,
    RequiredId,
    SharedChild,
    info,
    same,
)
from wintry.models.tracking import ChangeSet, Insert, Key, Move, Remove, Replace, Set, diff, snapshot


class Point(Model, frozen=True):
    x: int
    y: int = 0


class Note(Model):
    text: str
    at: Point | None = None


class Node(Model):
    """Holds one field of each kind, and children of its own class."""

    name: str
    id: int = RequiredId()
    size: float = 1.0
    due: date | None = None
    done: bool = False
    seen: datetime | None = None
    tags: list[str] = Array()
    marks: list[int] | None = None
    place: Point | None = None
    note: Note | None = None
    notes: list[Note] = Array()
    points: list[Point] = Array()
    children: "list[Node]" = Array()


class Line(Model):
    qty: int
    orderid: str = RequiredId()
    sku: str = RequiredId()


class Batch(Model):
    sku: str
    quantity: int
    reference: str = RequiredId()
    lines: list[Line] = Array()
    eta: date | None = None


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()
    main: Batch | None = None


def leaf(number: int) -> Node:
    return Node(
        id=number,
        name=f"n{number}",
        tags=["a", "b"],
        marks=[3, 1, 2],
        place=Point(x=1),
        note=Note(text="hi"),
        notes=[Note(text="c"), Note(text="a", at=Point(x=1)), Note(text="b")],
        points=[Point(x=3), Point(x=1), Point(x=2)],
    )


def tree(depth: int, number: int = 1) -> Node:
    """A node of which the middle child has children, and so on."""
    node = leaf(number)
    if depth > 1:
        node.children = [leaf(number * 10 + 3), tree(depth - 1, number * 10 + 1), leaf(number * 10 + 2)]
    return node


def down(node: Node, depth: int) -> Node:
    """The middle child of the middle child …, at `depth`."""
    for _ in range(depth - 1):
        node = node.children[1]
    return node


def product() -> Product:
    batches = [
        Batch(sku="a", quantity=9, reference=f"b{n}", lines=[Line(qty=i, orderid=f"o{i}", sku="a") for i in range(3)])
        for n in range(3)
    ]
    return Product(sku="a", batches=batches, main=Batch(sku="a", quantity=1, reference="m"))


def new_child(node: Node) -> Node:
    return Node(id=99, name="new")


def assign(name: str, value: Any) -> Callable[[Node], None]:
    return lambda node: setattr(node, name, value)


FIELD_EDITS: dict[str, Callable[[Node], Any]] = {
    "a text": assign("name", "other"),
    "a float": assign("size", 2.5),
    "a bool": assign("done", True),
    "a date": assign("due", date(2030, 1, 1)),
    "a datetime": assign("seen", datetime(2030, 1, 1, tzinfo=UTC)),
    "None in place of a list of scalars": assign("marks", None),
    "None in place of a value": assign("place", None),
    "None in place of a nested Model": assign("note", None),
    "another frozen value": assign("place", Point(x=1, y=1)),
    "another nested Model": assign("note", Note(text="other", at=Point(x=1))),
    "a field of a nested Model": lambda node: setattr(node.note, "text", "other"),
    "a value within a nested Model": lambda node: setattr(node.note, "at", Point(x=8)),
    "a field of a value item": lambda node: setattr(node.notes[1], "text", "other"),
    "a value within a value item": lambda node: setattr(node.notes[1], "at", None),
    "augmented assignment": lambda node: setattr(node, "size", node.size + 1),
}

ITEMS: dict[str, Callable[[Node], Any]] = {
    "tags": lambda node: "z",
    "marks": lambda node: 9,
    "notes": lambda node: Note(text="z"),
    "points": lambda node: Point(x=9),
    "children": new_child,
}


def set_items(items: list[Any], new: Any) -> None:
    items[1] = new


def set_slice(items: list[Any], new: Any) -> None:
    items[0:2] = [new]


def extended_slice(items: list[Any], new: Any) -> None:
    items[::2] = [items[-1] if len(items) % 2 else new, *items[0 : len(items[::2]) - 1]]


def order(item: Any) -> Any:
    return next((getattr(item, name) for name in ("id", "text", "x") if hasattr(item, name)), item)


LIST_EDITS: dict[str, Callable[[list[Any], Any], Any]] = {
    "append": lambda items, new: items.append(new),
    "extend": lambda items, new: items.extend([new]),
    "insert first": lambda items, new: items.insert(0, new),
    "insert in the middle": lambda items, new: items.insert(1, new),
    "pop the last": lambda items, new: items.pop(),
    "pop the first": lambda items, new: items.pop(0),
    "remove": lambda items, new: items.remove(items[1]),
    "clear": lambda items, new: items.clear(),
    "sort": lambda items, new: items.sort(key=order, reverse=items[0] == "a"),
    "reverse": lambda items, new: items.reverse(),
    "set an item": set_items,
    "delete an item": lambda items, new: items.__delitem__(0),
    "set a slice": set_slice,
    "delete a slice": lambda items, new: items.__delitem__(slice(0, 2)),
    "set an extended slice": extended_slice,
    "delete an extended slice": lambda items, new: items.__delitem__(slice(None, None, 2)),
    "rotate": lambda items, new: items.append(items.pop(0)),
    "+=": lambda items, new: items.__iadd__([new]),
    "*= 0": lambda items, new: items.__imul__(0),
    "remove and append": lambda items, new: (items.pop(0), items.append(new)),
}

ASSIGNMENTS: dict[str, Callable[[list[Any], Any], list[Any]]] = {
    "a new list": lambda items, new: [new],
    "an empty list": lambda items, new: [],
    "a list of some of the items": lambda items, new: items[1:],
    "a list of the items in another order": lambda items, new: items[::-1],
    "the sum of two lists": lambda items, new: [*items, new],
}


def shown_by_diff(edit: Callable[[Node], Any], depth: int) -> ChangeSet:
    """The change set of an edit at a depth, after all that must hold for any edit."""
    node = tree(5)
    before, old = snapshot(node), node.copy()
    edit(down(node, depth))
    assert not same(node, old), "the edit edits nothing"
    changes = diff(before, node)
    assert changes, "the edit was not seen"
    assert same(changes.apply_to(old.copy()), node)
    assert same(diff(old, node).apply_to(old), node)
    changes.check()
    json.loads(changes.to_json())
    return changes


@pytest.mark.contract("MODELS-034", "MODELS-041")
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
class TestEveryEdit:
    @pytest.mark.parametrize("edit", FIELD_EDITS)
    def test_of_a_field(self, edit: str, depth: int) -> None:
        shown_by_diff(FIELD_EDITS[edit], depth)

    @pytest.mark.parametrize("array", ITEMS)
    @pytest.mark.parametrize("edit", LIST_EDITS)
    def test_of_a_list_in_place(self, edit: str, array: str, depth: int) -> None:
        def change(node: Node) -> None:
            LIST_EDITS[edit](getattr(node, array), ITEMS[array](node))

        shown_by_diff(change, depth)

    @pytest.mark.parametrize("array", ITEMS)
    @pytest.mark.parametrize("edit", ASSIGNMENTS)
    def test_of_a_list_by_assignment(self, edit: str, array: str, depth: int) -> None:
        def change(node: Node) -> None:
            setattr(node, array, ASSIGNMENTS[edit](getattr(node, array), ITEMS[array](node)))

        shown_by_diff(change, depth)

    def test_of_a_child_replaced_by_another_of_its_id(self, depth: int) -> None:
        def change(node: Node) -> None:
            node.children[0] = node.children[0].copy(name="replaced")

        changes = shown_by_diff(change, depth)
        assert [type(operation) for operation in changes] == [Set]

    def test_of_a_child_that_moves_to_another_parent(self, depth: int) -> None:
        node = tree(5)
        before, old = snapshot(node), node.copy()
        goal = down(node, depth)
        goal.children.append(node.children.pop(0))
        assert same(diff(before, node).apply_to(old), node)


@pytest.mark.contract("MODELS-035")
class TestTypeAndValue:
    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("id_like", 1, True),
            ("id_like", 1, 1.0),
            ("id_like", 0.0, -0.0),
            ("tags", ["1"], [1]),
            ("marks", [1, 2], [True, 2]),
            ("marks", None, []),
            ("due", date(2024, 1, 1), datetime(2024, 1, 1)),
        ],
    )
    def test_another_type_is_a_change(self, name: str, old: Any, new: Any) -> None:
        name = "size" if name == "id_like" else name
        node = Node(id=1, name="n", **{name: old})
        before = snapshot(node)
        setattr(node, name, new)
        changes = diff(before, node)
        assert [(type(operation), operation.path) for operation in changes] == [(Set, (name,))]
        assert same(changes.operations[0].value, new)  # type: ignore[union-attr]  # a Set, as asserted

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("name", str(b"abc", "ascii")),
            ("size", float("2.5")),
            ("tags", ["a", "b"]),
            ("place", Point(x=1)),
            ("note", Note(text="hi", at=Point(x=2))),
            ("notes", [Note(text="hi")]),
            ("seen", datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
            ("children", [Node(id=2, name="child", tags=["x"])]),
        ],
    )
    def test_another_object_of_the_same_value_is_none(self, name: str, value: Any) -> None:
        node = Node(
            id=1,
            name="abc",
            size=2.5,
            tags=["a", "b"],
            place=Point(x=1),
            note=Note(text="hi", at=Point(x=2)),
            notes=[Note(text="hi")],
            seen=datetime(2024, 1, 1, tzinfo=UTC),
            children=[Node(id=2, name="child", tags=["x"])],
        )
        before = snapshot(node)
        assert getattr(node, name) is not value
        setattr(node, name, value)
        assert not diff(before, node)

    def test_an_edit_that_is_taken_back_is_none(self) -> None:
        node = tree(3)
        before = snapshot(node)
        node.children.append(node.children.pop(0))
        node.children.insert(0, node.children.pop())
        assert not diff(before, node)

    def test_an_equality_of_the_authors_own_is_not_asked(self) -> None:
        class Agreeable(Model):
            id: int = RequiredId()
            x: int = 0

            def __eq__(self, other: object) -> bool:
                raise AssertionError

            __hash__ = None  # type: ignore[assignment]  # as Python would have it

        class Holder(Model):
            id: int = RequiredId()
            items: list[Agreeable] = Array()

        holder = Holder(id=1, items=[Agreeable(id=1), Agreeable(id=2)])
        before = snapshot(holder)
        assert not diff(before, holder)
        holder.items[1].x = 1
        assert list(diff(before, holder)) == [Set(("items", Key(2), "x"), 1)]


@pytest.mark.contract("MODELS-036")
def test_objects_stay_plain() -> None:
    node = tree(2)
    fresh = tree(2)
    diff(snapshot(node), node)
    node.name = "x"
    diff(snapshot(fresh), node)
    assert vars(node).keys() == vars(fresh).keys()
    assert type(node) is Node
    assert "__setattr__" not in vars(Node)
    assert all(type(getattr(node, array)) is list for array in ITEMS)
    assert same(standard_copy.deepcopy(node), node)


@pytest.mark.contract("MODELS-037")
def test_the_order_of_operations() -> None:
    thing = product()
    before = snapshot(thing)
    b0, b1, b2 = thing.batches
    new = [Batch(sku="a", quantity=1, reference=key) for key in ("x", "y")]
    thing.batches = [new[0], b2, b0, new[1]]
    b2.quantity = 5
    b2.lines.pop(0)
    b2.eta = date(2030, 1, 1)
    thing.main.quantity = 7  # type: ignore[union-attr]  # it is there
    assert list(diff(before, thing)) == [
        Remove(("batches",), Key("b1")),
        Move(("batches",), Key("b2"), 1),
        Insert(("batches",), 0, new[0]),
        Insert(("batches",), 3, new[1]),
        Set(("main", "quantity"), 7),
        Remove(("batches", Key("b2"), "lines"), Key(("o0", "a"))),
        Set(("batches", Key("b2"), "quantity"), 5),
        Set(("batches", Key("b2"), "eta"), date(2030, 1, 1)),
    ]
    assert b1.reference == "b1"


@pytest.mark.contract("MODELS-038")
@pytest.mark.parametrize(
    ("order", "moved"),
    [
        ([0, 1, 2, 3, 4], []),
        ([1, 2, 3, 4, 0], [0]),
        ([4, 0, 1, 2, 3], [4]),
        ([1, 0, 2, 4, 3], 2),
        ([4, 3, 2, 1, 0], 4),
        ([0, 3, 1, 2, 4], [3]),
    ],
)
def test_as_few_children_as_possible_move(order: list[int], moved: list[int] | int) -> None:
    holder = Node(id=0, name="n", children=[Node(id=number, name="c") for number in range(5)])
    before = snapshot(holder)
    holder.children = [holder.children[number] for number in order]
    moves = list(diff(before, holder))
    assert all(isinstance(move, Move) and holder.children[move.index].id == move.key.id for move in moves)
    if isinstance(moved, int):
        assert len(moves) == moved
    else:
        assert [move.key.id for move in moves if isinstance(move, Move)] == moved


@pytest.mark.contract("MODELS-039")
class TestValueArrays:
    def changes(self, edit: Callable[[Node], Any]) -> list[Any]:
        node = leaf(1)
        before = snapshot(node)
        edit(node)
        return list(diff(before, node))

    def test_added_at_the_end(self) -> None:
        notes = [Note(text="x"), Note(text="y")]
        assert self.changes(lambda node: node.notes.extend(notes)) == [
            Insert(("notes",), 3, notes[0]),
            Insert(("notes",), 4, notes[1]),
        ]
        assert self.changes(lambda node: node.points.append(Point(x=7))) == [Insert(("points",), 3, Point(x=7))]

    def test_removed_at_the_end(self) -> None:
        for name in ("notes", "points"):
            removed = self.changes(lambda node, name=name: getattr(node, name).__delitem__(slice(1, None)))  # type: ignore[misc]  # a default binds the name
            assert removed == [Remove((name,), 1), Remove((name,), 2)]

    def test_edited_inside(self) -> None:
        def edit(node: Node) -> None:
            node.notes[0].text = "x"
            node.notes[1].at = None

        assert self.changes(edit) == [Set(("notes", 0, "text"), "x"), Set(("notes", 1, "at"), None)]

    def test_anything_else(self) -> None:
        (operation,) = self.changes(lambda node: node.notes.pop(0))
        assert (type(operation), operation.path) == (Replace, ("notes",))
        assert [note.text for note in operation.value] == ["a", "b"]
        assert self.changes(lambda node: node.points.reverse()) == [
            Replace(("points",), [Point(x=2), Point(x=1), Point(x=3)])
        ]


@pytest.mark.contract("MODELS-040")
class TestNested:
    def test_one_that_comes_or_goes(self) -> None:
        node, note = Node(id=1, name="n"), Note(text="hi")
        before = snapshot(node)
        node.note = note
        assert list(diff(before, node)) == [Set(("note",), note)]
        before = snapshot(node)
        node.note = None
        assert list(diff(before, node)) == [Set(("note",), None)]

    def test_one_of_another_id(self) -> None:
        thing, other = product(), Batch(sku="a", quantity=1, reference="other")
        before = snapshot(thing)
        thing.main = other
        assert list(diff(before, thing)) == [Replace(("main",), other)]

    def test_one_of_the_same_id(self) -> None:
        thing = product()
        before = snapshot(thing)
        thing.main = Batch(sku="a", quantity=2, reference="m", lines=[Line(qty=1, orderid="o", sku="a")])
        assert list(diff(before, thing)) == [
            Insert(("main", "lines"), 0, thing.main.lines[0]),
            Set(("main", "quantity"), 2),
        ]

    def test_a_frozen_value(self) -> None:
        node = leaf(1)
        before = snapshot(node)
        node.place = Point(x=2)
        node.note.text = "ho"  # type: ignore[union-attr]  # it is there
        assert list(diff(before, node)) == [Replace(("place",), Point(x=2)), Set(("note", "text"), "ho")]

    def test_a_frozen_value_that_holds_a_list(self) -> None:
        class Box(Model, frozen=True):
            sizes: list[int] = Array()
            notes: list[Note] = Array()

        class Shelf(Model):
            id: int = RequiredId()
            box: Box
            boxes: list[Box] = Array()

        shelf = Shelf(id=1, box=Box(sizes=[1], notes=[Note(text="a")]), boxes=[Box(sizes=[1])])
        before, old = snapshot(shelf), shelf.copy()
        shelf.box.notes[0].text = "b"
        shelf.boxes[0].sizes.append(2)
        changes = diff(before, shelf)
        assert [(type(operation), operation.path) for operation in changes] == [
            (Replace, ("boxes",)),
            (Replace, ("box",)),
        ]
        assert same(old.box, Box(sizes=[1], notes=[Note(text="a")]))
        assert same(changes.apply_to(old), shelf)


class Frozen(Model, frozen=True):
    id: int = RequiredId()
    x: int = 0
    note: Note | None = None


@pytest.mark.contract("MODELS-041")
def test_frozen_entities_are_compared_and_applied_too() -> None:
    class Holder(Model):
        id: int = RequiredId()
        one: Frozen
        many: list[Frozen] = Array()

    holder = Holder(id=1, one=Frozen(id=1), many=[Frozen(id=1), Frozen(id=2, note=Note(text="a"))])
    before, old = snapshot(holder), holder.copy()
    holder.one = Frozen(id=1, x=5)
    holder.many[0] = Frozen(id=1, x=6)
    assert holder.many[1].note is not None
    holder.many[1].note.text = "b"
    changes = diff(before, holder)
    assert same(changes.apply_to(old), holder)


@pytest.mark.contract("MODELS-042")
class TestChangeSet:
    def changed(self) -> ChangeSet:
        thing = product()
        before = snapshot(thing)
        thing.batches = [thing.batches[2], thing.batches[0]]
        thing.batches[1].lines.append(Line(qty=1, orderid="new", sku="a"))
        thing.batches[0].eta = date(2030, 1, 1)
        thing.main = None
        return diff(before, thing)

    def test_a_list_of_scalars_in_it_stays_as_it_was(self) -> None:
        node = Node(id=1, name="a")
        before = snapshot(node)
        node.tags.append("x")
        changes = diff(before, node)
        node.tags.append("y")
        assert tuple(changes) == (Set(("tags",), ["x"]),)

    def test_is_false_when_empty(self) -> None:
        thing = product()
        changes = diff(snapshot(thing), thing)
        assert (bool(changes), len(changes), list(changes), str(changes), changes.model) == (False, 0, [], "", Product)
        assert changes.to_json() == "[]"
        changed = self.changed()
        assert (bool(changed), len(changed), len(list(changed))) == (True, 5, 5)
        assert repr(changed) == "<ChangeSet of Product: 5 operations>"

    def test_prints_one_line_an_operation(self) -> None:
        assert str(self.changed()).splitlines() == [
            "Product.batches - 'b1'",
            "Product.batches > 'b2' to [0]",
            "Product.main = None",
            "Product.batches['b2'].eta = datetime.date(2030, 1, 1)",
            "Product.batches['b0'].lines + [3] Line(qty=1, orderid='new', sku='a')",
        ]

    def test_is_written_as_json(self) -> None:
        assert json.loads(self.changed().to_json()) == [
            {"op": "remove", "path": ["batches"], "key": {"id": "b1"}},
            {"op": "move", "path": ["batches"], "key": {"id": "b2"}, "index": 0},
            {"op": "set", "path": ["main"], "value": None},
            {"op": "set", "path": ["batches", {"id": "b2"}, "eta"], "value": "2030-01-01"},
            {
                "op": "insert",
                "path": ["batches", {"id": "b0"}, "lines"],
                "index": 3,
                "item": {"qty": 1, "orderid": "new", "sku": "a"},
            },
        ]

    def test_shares_nothing_with_the_copy_that_it_is_applied_to(self) -> None:
        node = Node(id=1, name="n")
        before, old = snapshot(node), node.copy()
        node.note, node.tags = Note(text="a"), ["x"]
        node.children.append(Node(id=2, name="c"))
        diff(before, node).apply_to(old)
        node.note.text, node.tags[0], node.children[0].name = "b", "y", "d"
        assert (old.note.text, old.tags, old.children[0].name) == ("a", ["x"], "c")  # type: ignore[union-attr]  # it is there

    def test_a_copy_in_another_state_is_refused(self) -> None:
        with pytest.raises(LookupError, match="no child 'b1'"):
            self.changed().apply_to(Product(sku="a"))


@pytest.mark.contract("MODELS-043")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (assign("name", None), "Node.name: expected str, got None"),
        (assign("tags", ["a", 1]), "Node.tags[1]: expected str, got int"),
        (assign("tags", None), "Node.tags: expected list, got None"),
        (assign("note", Note(text=1)), "Node.note.text: expected str, got int"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda node: setattr(node.notes[1], "text", "\0"), "Node.notes[1].text: text must not contain NUL"),
        (lambda node: node.points.insert(0, Point(x=2**63)), "Node.points[0].x: 9223372036854775808 does not fit"),
        (
            lambda node: setattr(node.children[1].children[0], "size", 1),
            "Node.children[11].children[113].size: expected float, got int",
        ),
        (
            lambda node: node.children[1].children.append(Node(id=5, name=None)),  # type: ignore[arg-type]  # wrong on purpose
            "Node.children[11].children[5].name: expected str, got None",
        ),
        (lambda node: node.notes.append(Note(text=1)), "Node.notes[3].text: expected str, got int"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_check_names_what_no_store_could_keep(edit: Callable[[Node], Any], message: str) -> None:
    node = tree(3)
    before = snapshot(node)
    edit(node)
    if message == "Node.tags: expected list, got None":
        with pytest.raises(InvalidValue) as caught:
            diff(before, node)
    else:
        changes = diff(before, node)
        with pytest.raises(InvalidValue) as caught:
            changes.check()
    assert str(caught.value).startswith(message)


@pytest.mark.contract("MODELS-044")
class TestSharedChild:
    def refused(self, edit: Callable[[Product], Any]) -> str:
        thing = product()
        before = snapshot(thing)
        edit(thing)
        with pytest.raises(SharedChild) as by_diff:
            diff(before, thing)
        with pytest.raises(SharedChild) as by_check:
            info(Product).check(thing)
        assert by_check.value.path == by_diff.value.path
        return str(by_diff.value).partition(": ")[0]

    def test_in_two_parents(self) -> None:
        shared = Line(qty=1, orderid="new", sku="a")

        def edit(thing: Product) -> None:
            for batch in thing.batches[:2]:
                batch.lines.append(shared)

        assert self.refused(edit) == "Product.batches['b1'].lines[('new', 'a')]"

    def test_of_the_same_state_in_two_parents(self) -> None:
        def edit(thing: Product) -> None:
            thing.batches[1].lines = thing.batches[0].lines

        assert self.refused(edit) == "Product.batches['b1'].lines[('o0', 'a')]"

    def test_twice_in_one_array(self) -> None:
        assert self.refused(lambda thing: thing.batches.append(thing.batches[0])) == "Product.batches['b0']"

    def test_in_an_array_and_nested(self) -> None:
        def edit(thing: Product) -> None:
            thing.main = thing.batches[0]

        assert self.refused(edit).startswith("Product.")

    def test_within_a_child_that_comes_in(self) -> None:
        line = Line(qty=1, orderid="new", sku="a")
        new = Batch(sku="a", quantity=1, reference="new", lines=[line, line])
        assert self.refused(lambda thing: thing.batches.append(new)) == "Product.batches['new'].lines[('new', 'a')]"

    def test_an_object_within_itself(self) -> None:
        node = tree(2)
        before = snapshot(node)
        node.children[0].children.append(node)
        for look in (snapshot, lambda node: diff(before, node)):
            with pytest.raises(SharedChild):
                look(node)

    def test_a_value_that_can_change(self) -> None:
        node = leaf(1)
        before = snapshot(node)
        node.notes.append(node.notes[0])
        with pytest.raises(SharedChild, match=r"Node\.notes\[3\]"):
            diff(before, node)

    def test_immutable_values_may_be_shared(self) -> None:
        node, place = leaf(1), Point(x=5)
        before = snapshot(node)
        node.place, node.points = place, [place, place]
        assert diff(before, node)
        info(Node).check(node)


@pytest.mark.contract("MODELS-045")
class TestDuplicateChild:
    @pytest.mark.parametrize("place", [0, 99])
    def test_two_children_of_one_id(self, place: int) -> None:
        thing = product()
        before = snapshot(thing)
        thing.batches[1].lines.insert(place, Line(qty=8, orderid="o1", sku="a"))
        for look in (lambda: diff(before, thing), lambda: info(Product).check(thing)):
            with pytest.raises(
                DuplicateChild, match=r"^Product\.batches\['b1'\]\.lines\[\('o1', 'a'\)\]: two children"
            ):
                look()

    def test_within_a_child_that_comes_in(self) -> None:
        thing = product()
        before = snapshot(thing)
        lines = [Line(qty=qty, orderid="o", sku="a") for qty in (1, 2)]
        thing.batches.append(Batch(sku="a", quantity=1, reference="new", lines=lines))
        with pytest.raises(DuplicateChild, match=r"batches\['new'\]\.lines"):
            diff(before, thing)

    def test_one_id_under_two_parents_is_no_duplicate(self) -> None:
        info(Product).check(product())


@pytest.mark.contract("MODELS-046")
class TestIdentityChanged:
    @pytest.mark.parametrize(
        ("edit", "path"),
        [
            (lambda thing: setattr(thing, "sku", "b"), "Product.sku"),
            (lambda thing: setattr(thing.batches[1], "reference", "x"), "Product.batches['x']"),
            (lambda thing: setattr(thing.batches[1].lines[0], "sku", "x"), "Product.batches['b1'].lines[('o0', 'x')]"),
            (lambda thing: setattr(thing.main, "reference", "x"), "Product.main.reference"),
            (
                lambda thing: thing.batches[0].lines.append(thing.batches[1].lines.pop().copy()) or None,
                None,
            ),
        ],
    )
    def test_of_an_object_where_it_stands(self, edit: Callable[[Product], Any], path: str | None) -> None:
        thing = product()
        before = snapshot(thing)
        edit(thing)
        if path is None:  # a copy under another parent: two lines of one id there
            with pytest.raises(DuplicateChild):
                diff(before, thing)
            return
        with pytest.raises(IdentityChanged) as caught:
            diff(before, thing)
        assert str(caught.value).startswith(f"{path}: the id was ")

    def test_of_two_children_that_swap_their_ids(self) -> None:
        thing = product()
        before = snapshot(thing)
        thing.batches[0].reference, thing.batches[1].reference = "b1", "b0"
        with pytest.raises(IdentityChanged):
            diff(before, thing)
        thing.batches[0], thing.batches[1] = thing.batches[1], thing.batches[0]
        with pytest.raises(IdentityChanged):
            diff(before, thing)

    def test_of_a_child_that_has_moved(self) -> None:
        thing = product()
        before = snapshot(thing)
        line = thing.batches[0].lines.pop()
        line.orderid = "other"
        thing.batches[1].lines.append(line)
        with pytest.raises(IdentityChanged, match="the id was \\('o2', 'a'\\) and is \\('other', 'a'\\)"):
            diff(before, thing)

    def test_of_a_child_within_a_new_one(self) -> None:
        thing = product()
        before = snapshot(thing)
        line = thing.batches[0].lines.pop()
        line.orderid = "other"
        thing.batches.append(Batch(sku="a", quantity=1, reference="new", lines=[line]))
        with pytest.raises(IdentityChanged, match=r"batches\['new'\]\.lines"):
            diff(before, thing)

    def test_by_its_type_alone(self) -> None:
        node = Node(id=1, name="n")
        before = snapshot(node)
        node.id = True
        with pytest.raises(IdentityChanged):
            diff(before, node)

    def test_of_two_objects(self) -> None:
        with pytest.raises(IdentityChanged):
            diff(Node(id=1, name="n"), Node(id=2, name="n"))


@pytest.mark.contract("MODELS-047")
class TestMalformed:
    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda node: setattr(node.children[0], "notes", None), "Node.children[13].notes: expected list, got None"),
            (lambda node: node.children[0].notes.append("x"), "Node.children[13].notes[3]: expected Note, got str"),
            (lambda node: node.children.append({"id": 5}), "Node.children[3]: expected Node, got dict"),
            (lambda node: setattr(node, "note", "x"), "Node.note: expected Note, got str"),
            (lambda node: delattr(node, "name"), "Node.name: the attribute is missing"),
            (lambda node: setattr(node.children[0], "id", [1]), "Node.children[[1]].id: expected int, got list"),
        ],
    )
    def test_says_where(self, edit: Callable[[Node], Any], message: str) -> None:
        node = tree(2)
        before = snapshot(node)
        edit(node)
        with pytest.raises(InvalidValue) as caught:
            diff(before, node)
        assert str(caught.value) == message
        if "[[1]]" not in message:  # a snapshot does not look at leaves
            with pytest.raises(InvalidValue):
                snapshot(node)

    def test_a_subclass_in_the_place_of_its_base(self) -> None:
        class Special(Batch):
            pass

        thing = product()
        before = snapshot(thing)
        thing.batches[0] = Special(sku="a", quantity=9, reference="b0", lines=thing.batches[0].lines)
        with pytest.raises(InvalidValue, match=r"Product\.batches\['b0'\]: expected Batch, got .*Special"):
            diff(before, thing)

    def test_objects_of_two_classes(self) -> None:
        with pytest.raises(TypeError, match="cannot compare Node with Product"):
            diff(leaf(1), product())
        with pytest.raises(TypeError, match="str is not a Model"):
            snapshot("x")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.contract("MODELS-048")
def test_generated_code_shows_in_tracebacks() -> None:
    class Loud(Model):
        x: int

        def __post_init__(self) -> None:
            raise LookupError("here")

    with pytest.raises(LookupError) as caught:
        info(Loud).restore(1)
    text = "".join(traceback.format_exception(caught.value))
    assert "<wintry.models restore of " in text
    assert "self.__post_init__()" in text


@pytest.mark.contract("MODELS-044")
def test_a_frozen_value_may_contain_others_of_its_class() -> None:
    class Link(Model, frozen=True):
        number: int
        next: "Link | None" = None

    class Chain(Model):
        id: str = RequiredId()
        first: Link | None = None

    chain = Chain(id="a", first=Link(number=1, next=Link(number=2)))
    assert info(Link).immutable
    assert same(chain.copy(), chain)
    before = snapshot(chain)
    chain.first = Link(number=1, next=Link(number=3))
    assert list(diff(before, chain)) == [Replace(("first",), chain.first)]

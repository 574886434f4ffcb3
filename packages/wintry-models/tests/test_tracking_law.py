"""The law of change sets: whatever edits lie between two states, the changes applied to the old one give the new one.

A history is a list of random edits of a random aggregate: fields, every kind of list, children that come, go, swap
places and move to other parents.
"""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wintry.models import Array, Model, RequiredId, info, same
from wintry.models.tracking import Insert, Key, Move, Remove, diff, snapshot


class Point(Model, frozen=True):
    x: int


class Note(Model):
    text: str
    at: Point | None = None
    points: list[Point] = Array()


class Node(Model):
    number: int = 0
    id: int = RequiredId()
    due: date | None = None
    tags: list[str] = Array()
    point: Point | None = None
    note: Note | None = None
    notes: list[Note] = Array()
    points: list[Point] = Array()
    children: list[Node] = Array()


small = st.integers(0, 3)
points = st.builds(Point, x=small)
notes = st.builds(Note, text=st.sampled_from("ab"), at=st.none() | points, points=st.lists(points, max_size=2))
leaves = st.builds(
    Node,
    number=small,
    id=st.integers(0, 7),
    due=st.none() | st.dates(date(2024, 1, 1), date(2024, 1, 3)),
    tags=st.lists(st.sampled_from("ab"), max_size=3),
    point=st.none() | points,
    note=st.none() | notes,
    notes=st.lists(notes, max_size=3),
    points=st.lists(points, max_size=3),
)
nodes = st.recursive(
    leaves,
    lambda inner: st.builds(
        Node, id=st.integers(0, 7), children=st.lists(inner, max_size=5, unique_by=lambda node: node.id)
    ),
    max_leaves=12,
)


def all_nodes(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in all_nodes(child))]


def edit(root: Node, data: st.DataObject) -> None:
    """One random edit that leaves the aggregate well formed."""
    node = data.draw(st.sampled_from(all_nodes(root)))
    kind = data.draw(st.sampled_from(["field", "list", "child in", "child out", "order", "move", "replace", "note"]))
    ids = {child.id for child in node.children}
    if kind == "field":
        name = data.draw(st.sampled_from(["number", "due", "point", "note"]))
        setattr(node, name, getattr(data.draw(leaves), name))
    elif kind == "list":
        name = data.draw(st.sampled_from(["tags", "notes", "points"]))
        items, new = getattr(node, name), getattr(data.draw(leaves), name)
        start, end = data.draw(small), data.draw(small)
        items[start:end] = new
    elif kind == "child in":
        child = data.draw(nodes)
        if child.id not in ids:
            node.children.insert(data.draw(small), child)
    elif kind == "child out" and node.children:
        node.children.pop(data.draw(st.integers(0, len(node.children) - 1)))
    elif kind == "order":
        node.children[:] = data.draw(st.permutations(node.children))
    elif kind == "move":
        goal = data.draw(st.sampled_from(all_nodes(root)))
        child = node.children[-1] if node.children else None
        outside = child is not None and not any(below is goal for below in all_nodes(child))
        if outside and child.id not in {other.id for other in goal.children}:
            goal.children.append(node.children.pop())
    elif kind == "replace" and node.children:
        place = data.draw(st.integers(0, len(node.children) - 1))
        node.children[place] = data.draw(nodes).copy(id=node.children[place].id)
    elif kind == "note" and node.notes:
        node.notes[0].text += "c"
        node.notes[-1].points.append(Point(x=9))


@pytest.mark.contract("MODELS-041", "MODELS-034")
@given(nodes, st.data(), st.integers(1, 8))
def test_changes_applied_to_the_old_give_the_new(root: Node, data: st.DataObject, length: int) -> None:
    before, old = snapshot(root), root.copy()
    for _ in range(length):
        edit(root, data)
    info(Node).check(root)
    changes = diff(before, root)
    assert bool(changes) is not same(old, root)
    assert list(map(str, changes)) == list(map(str, diff(old, root)))
    changes.check()
    assert same(changes.apply_to(old.copy()), root)
    assert not diff(root, changes.apply_to(old))


@pytest.mark.contract("MODELS-038")
@given(st.permutations(range(6)), st.sets(st.integers(0, 5)), st.lists(st.integers(6, 9), unique=True))
def test_arrays_are_rearranged_with_as_few_moves_as_possible(order: list[int], gone: set[int], new: list[int]) -> None:
    holder = Node(id=0, children=[Node(id=number) for number in range(6)])
    before, old = snapshot(holder), holder.copy()
    kept = [number for number in order if number not in gone]
    holder.children = [Node(id=number) for number in [*new[:2], *kept, *new[2:]]]
    changes = diff(before, holder)
    removed = [operation.key for operation in changes if isinstance(operation, Remove)]
    assert removed == [Key(number) for number in range(6) if number in gone]
    assert [operation.item.id for operation in changes if isinstance(operation, Insert)] == new
    moves = [operation for operation in changes if isinstance(operation, Move)]
    assert len(moves) == len(kept) - longest_run(kept)
    assert same(changes.apply_to(old), holder)


def longest_run(numbers: list[int]) -> int:
    """The length of a longest increasing subsequence, by trying all."""
    best = 0
    for mask in range(1 << len(numbers)):
        chosen = [number for place, number in enumerate(numbers) if mask >> place & 1]
        if chosen == sorted(chosen):
            best = max(best, len(chosen))
    return best

"""The change set of one aggregate → one update.

The server takes one update only if no two of its parts touch the same path, nor one above the other. So a list is
changed in exactly one of these ways: by the places of its items, which are those that were loaded, since the version
guards the update; by `$push` of what is new at its end; by `$pull` of children by their ids; or as a whole, where it is
anything else or more than one of them. What is set as a whole is read from the object, all else from the change set;
`graft` then puts into it what only the store knows of its children.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wintry.models import FieldInfo, Model, ModelInfo, info, tracking

from .codec import encoder
from .documents import encoded, encoded_item

if TYPE_CHECKING:
    from wintry.models.tracking import ChangeSet


def planned(obj: Model, changes: ChangeSet) -> tuple[dict[str, Any], dict[str, FieldInfo]]:
    """`$set`, `$push` and `$pull` for `changes` of `obj`, empty where there are none; and what lists they set.

    The lists are those of children with ids that are set as a whole, by their place in the document.
    """
    lists: dict[str, FieldInfo] = {}
    sets: dict[str, Any] = {}
    pushes: dict[str, Any] = {}
    pulls: dict[str, Any] = {}
    arrays: dict[tracking.Path, list[tracking.Operation]] = {}
    for operation in changes:
        if isinstance(operation, tracking.Insert | tracking.Remove | tracking.Move):
            arrays.setdefault(operation.path, []).append(operation)
    entered = {path[:at] for operation in changes for path in (operation.path,) for at in _items(path)}
    whole = {path for path, edits in arrays.items() if path in entered or not _simple(obj, path, edits)}
    for path in _outermost(whole):
        field, value, dotted = _found(obj, path)
        sets[dotted] = encoded(field, value)
        if field.model is not None and info(field.model).is_entity:
            lists[dotted] = field
    for operation in changes:
        path = operation.path
        if any(path[: len(outer)] == outer for outer in whole):
            continue
        if isinstance(operation, tracking.Set | tracking.Replace):
            field, _, dotted = _found(obj, path)
            sets[dotted] = encoded(field, operation.value)
    for path, edits in arrays.items():
        if any(path[: len(outer)] == outer for outer in whole):
            continue
        field, _, dotted = _found(obj, path)
        items = [encoded_item(field, edit.item) for edit in edits if isinstance(edit, tracking.Insert)]
        if items:
            pushes[dotted] = {"$each": items}
        else:
            pulls[dotted] = _by_id(field, [edit.key.id for edit in edits if _removes_child(edit)])  # type: ignore[union-attr]  # it does
    parts = {"$set": sets, "$push": pushes, "$pull": pulls}
    return {operator: fields for operator, fields in parts.items() if fields}, lists


def graft(field: FieldInfo, stored: Any, new: Any) -> None:
    """Put into `new`, the stored form of a field as it is going to be, what `stored` has beyond the fields of Models.

    Children are known by their ids; what has none is new as a whole.
    """
    if field.model is None or not stored or not new:
        return
    about = info(field.model)
    if not field.is_array:
        _graft_document(about, stored, new)
    elif about.is_entity:
        known = {_id_in(about, item): item for item in stored}
        for item in new:
            if (before := known.get(_id_in(about, item))) is not None:
                _graft_document(about, before, item)


def _graft_document(about: ModelInfo, stored: dict[str, Any], new: dict[str, Any]) -> None:
    for name, value in stored.items():
        new.setdefault(name, value)
    for field in about.fields:
        graft(field, stored.get(field.name), new[field.name])


def _id_in(about: ModelInfo, item: dict[str, Any]) -> str:
    return repr([item.get(name) for name in about.identity_names])


def touched(changes: ChangeSet, path: Sequence[FieldInfo]) -> bool:
    """Whether `changes` may change values of the field at the end of `path`."""
    names = tuple(field.name for field in path)
    for operation in changes:
        reached = tuple(part for part in operation.path if isinstance(part, str))
        if reached == names[: len(reached)] or names == reached[: len(names)]:
            return True
    return False


def _items(path: tracking.Path) -> list[int]:
    """Where in `path` an item of a list is meant."""
    return [at for at, part in enumerate(path) if not isinstance(part, str)]


def _outermost(paths: set[tracking.Path]) -> list[tracking.Path]:
    return [path for path in paths if not any(path[:at] in paths for at in range(1, len(path)))]


def _simple(obj: Model, path: tracking.Path, edits: Sequence[tracking.Operation]) -> bool:
    """Whether a list only grew at its end, or only lost children that have ids."""
    if all(_removes_child(edit) for edit in edits):
        return True
    indexes = sorted(edit.index for edit in edits if isinstance(edit, tracking.Insert))
    if len(indexes) < len(edits):
        return False
    length = len(_found(obj, path)[1])
    return indexes == list(range(length - len(indexes), length))


def _removes_child(edit: tracking.Operation) -> bool:
    return isinstance(edit, tracking.Remove) and isinstance(edit.key, tracking.Key)


def _found(obj: Any, path: tracking.Path) -> tuple[FieldInfo, Any, str]:
    """The field that `path` ends in, its present value, and where in the document it is."""
    names: list[str] = []
    field: FieldInfo | None = None
    found: Any = obj
    for part in path:
        if isinstance(part, str):
            field = info(type(found)).by_name[part]
            found = getattr(found, part)
            names.append(part)
            continue
        place = part if isinstance(part, int) else _place(found, part.id)
        found = found[place]
        names.append(str(place))
    assert field is not None, "a path has a field"
    return field, found, ".".join(names)


def _place(items: Sequence[Any], id: Any) -> int:
    return next(place for place, item in enumerate(items) if info(type(item)).id_of(item) == id)


def _by_id(field: FieldInfo, ids: Sequence[Any]) -> dict[str, Any]:
    """What the children of these ids fulfil."""
    assert field.model is not None, "children are Models"
    identity = info(field.model).identity
    if len(identity) == 1:
        encode = encoder(identity[0].leaf)
        return {identity[0].name: {"$in": [encode(id) for id in ids]}}
    parts = [(each.name, encoder(each.leaf)) for each in identity]
    every = [{name: encode(value) for (name, encode), value in zip(parts, id, strict=True)} for id in ids]
    return {"$or": every}

"""Change tracking: `snapshot` an object, let it be changed by whatever code, `diff` it.

Nothing is stored on the object and nothing of it is replaced: lists are lists, attributes are attributes. The code that
takes the snapshot and compares is generated for each class.
"""

from wintry.models.tracking.changes import ChangeSet, Insert, Key, Move, Operation, Path, Remove, Replace, Set
from wintry.models.tracking.diff import diff, snapshot
from wintry.models.tracking.snapshot import Snapshot

__all__ = [
    "ChangeSet",
    "Insert",
    "Key",
    "Move",
    "Operation",
    "Path",
    "Remove",
    "Replace",
    "Set",
    "Snapshot",
    "diff",
    "snapshot",
]

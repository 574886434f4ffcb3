"""Plain domain classes with a generated codec and change tracking."""

from wintry.models.errors import (
    DefinitionError,
    DuplicateChild,
    IdentityChanged,
    InvalidValue,
    ModelError,
    OwnershipError,
    SharedChild,
    UnresolvedName,
    collecting,
)
from wintry.models.fields import Array, AutoString, AutoUUID, Field, Id, RequiredId, Transient
from wintry.models.info import FieldInfo, ModelInfo, info
from wintry.models.kinds import ArrayOf, Kind, Leaf, Nested
from wintry.models.model import Model
from wintry.models.same import same

__all__ = [
    "Array",
    "ArrayOf",
    "AutoString",
    "AutoUUID",
    "DefinitionError",
    "DuplicateChild",
    "Field",
    "FieldInfo",
    "Id",
    "IdentityChanged",
    "InvalidValue",
    "Kind",
    "Leaf",
    "Model",
    "ModelError",
    "ModelInfo",
    "Nested",
    "OwnershipError",
    "RequiredId",
    "SharedChild",
    "Transient",
    "UnresolvedName",
    "collecting",
    "info",
    "same",
]

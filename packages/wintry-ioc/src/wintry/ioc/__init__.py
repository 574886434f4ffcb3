"""Constructor injection with lifetimes, scopes and one report of every fault.

Mark classes and functions with `provider`, let `Container.scan` find them, enter the container, ask its scopes.
The whole public API is here; the modules are private.
"""

from .constructor import injectable
from .container import Container
from .errors import (
    AsyncRequired,
    ContainerStateError,
    DefinitionError,
    Fault,
    InjectionError,
    IoCError,
    NoContainer,
    NotProvided,
    ScanError,
    ScopeClosed,
    collecting,
)
from .hints import Named
from .injection import inject, injected
from .marks import Lifetime, provider
from .override import Override
from .plan import Plan
from .scope import Scope

__all__ = [
    "AsyncRequired",
    "Container",
    "ContainerStateError",
    "DefinitionError",
    "Fault",
    "InjectionError",
    "IoCError",
    "Lifetime",
    "Named",
    "NoContainer",
    "NotProvided",
    "Override",
    "Plan",
    "ScanError",
    "Scope",
    "ScopeClosed",
    "collecting",
    "inject",
    "injectable",
    "injected",
    "provider",
]

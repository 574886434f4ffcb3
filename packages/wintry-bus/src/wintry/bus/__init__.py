"""Commands, events and a message pipeline that loses nothing."""

from .call import current
from .contracts import upcast
from .dead_letters import DeadLetter, DeadLetters
from .errors import (
    AlreadyHandled,
    BusError,
    CapabilityError,
    DefinitionError,
    Discard,
    Fault,
    HandleInsideUnit,
    HandlerTimeout,
    LateRegister,
    LeaseLost,
    NoHandler,
    NotInHandler,
    Park,
    ResultUnknown,
    TwoStores,
    Undecodable,
    UnknownDeadLetter,
    collecting,
)
from .handlers import command_handler, event_handler
from .messages import Command, Envelope, Event, Message
from .publisher import Publisher, TransportPublisher
from .queue import MessageQueue
from .retry import Retry
from .runtime import Health, Limits, Runtime

__all__ = (
    "AlreadyHandled",
    "BusError",
    "CapabilityError",
    "Command",
    "DeadLetter",
    "DeadLetters",
    "DefinitionError",
    "Discard",
    "Envelope",
    "Event",
    "Fault",
    "HandleInsideUnit",
    "HandlerTimeout",
    "Health",
    "LateRegister",
    "LeaseLost",
    "Limits",
    "Message",
    "MessageQueue",
    "NoHandler",
    "NotInHandler",
    "Park",
    "Publisher",
    "ResultUnknown",
    "Retry",
    "Runtime",
    "TransportPublisher",
    "TwoStores",
    "Undecodable",
    "UnknownDeadLetter",
    "collecting",
    "command_handler",
    "current",
    "event_handler",
    "upcast",
)

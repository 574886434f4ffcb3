"""Where messages to other services leave: the name that the handlers ask for."""

from wintry.bus import Publisher

__all__ = ["Publisher"]

"""Why a demonstration cannot go on."""


class DemoError(Exception):
    """Something that is said to the user in one line."""

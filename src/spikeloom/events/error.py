"""The one error of this room."""


class EventsError(ValueError):
    """Events, or a file of them, that cannot be taken as they are: what was found, and what would help."""

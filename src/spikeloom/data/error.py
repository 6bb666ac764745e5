"""The one error of this room."""


class DataError(RuntimeError):
    """A data set that is missing, corrupt or out of reach, or samples that do not fit together."""

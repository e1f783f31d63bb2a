"""What can be wrong with pixels, as types: the message names the object, what was found and what was expected."""

from __future__ import annotations


class PixelError(ValueError):
    """Input that this library cannot work with.

    Parameters
    ----------
    subject
        The array, table, header or file at fault.
    found
        What was observed.
    expected
        What would have been right.
    """

    def __init__(self, subject: str, found: str, expected: str = "") -> None:
        self.subject, self.found, self.expected = subject, found, expected
        super().__init__(f"{subject}: {found}" + (f"; expected {expected}" if expected else ""))


class ShapeError(PixelError):
    """An array has the wrong shape."""


class TypeMismatchError(PixelError):
    """An array has the wrong element type or memory order."""


class InvalidValueError(PixelError):
    """A value is outside its domain (NaN where a number must be, a negative gain)."""


class WcsError(PixelError):
    """A header holds no usable world coordinate system."""


class HeaderError(PixelError):
    """A FITS header cannot be written or understood."""


class CorruptFileError(PixelError):
    """A file is truncated or its checksums do not agree."""


class EncodingError(PixelError):
    """Columns do not fit the alert schema."""

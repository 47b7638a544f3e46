"""Object and file storage through plugins: zero-copy reads, writers and listings.

Functions take URIs: ``penstock.get("s3://bucket/key")``. A ``Store`` has the same by key, with options
and credentials of its own. Every failure is a ``penstock.Error``.
"""
import sys as _sys

# Such an interpreter would look for the extension under another name, and say only that there is none.
if "t" in _sys.abiflags:
    raise ImportError("penstock does not support free-threaded interpreters yet: "
                      "use a CPython with the GIL, 3.11 or later")

from . import _aio, _aio_streams, _endpoints, _functions, _streams
from ._penstock import (
    BadPluginError,
    BytesView,
    CancelledError,
    ChangedError,
    DataLossError,
    Error,
    ExistsError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    LengthMismatchError,
    NoMemoryError,
    NoSchemeError,
    NoSpaceError,
    NotFoundError,
    ObjectNotFoundError,
    OverBudgetError,
    PermissionDeniedError,
    PreconditionError,
    RangeError,
    StoreIOError,
    ThrottledError,
    TimeoutError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedOperationError,
    __version__,
    stats,
)
from ._aio import *
from ._aio_streams import *
from ._endpoints import *
from ._functions import *
from ._streams import *

__all__ = [
    "BadPluginError",
    "BytesView",
    "CancelledError",
    "ChangedError",
    "DataLossError",
    "Error",
    "ExistsError",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "LengthMismatchError",
    "NoMemoryError",
    "NoSchemeError",
    "NoSpaceError",
    "NotFoundError",
    "ObjectNotFoundError",
    "OverBudgetError",
    "PermissionDeniedError",
    "PreconditionError",
    "RangeError",
    "StoreIOError",
    "ThrottledError",
    "TimeoutError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedOperationError",
    "__version__",
    "stats",
    *_aio.__all__,
    *_aio_streams.__all__,
    *_endpoints.__all__,
    *_functions.__all__,
    *_streams.__all__,
]

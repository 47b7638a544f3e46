"""Places: what a URI, or a key of a Store, is made of, and what lies there.

Functions that serve both take `ops`, the extension module or a Store, and a `base`, which makes a name for
`ops` of a key: "s3://bucket/", or "" for a Store."""
import builtins
import os

from ._penstock import InvalidArgumentError, Store


def refusal(message, uri, kind=InvalidArgumentError):
    """An exception of this half of the package, with the URI that it is about."""
    error = kind(message)
    error.uri = uri
    return error


def text_of(uri):
    """A URI or key as str; a path object stands for file:// and its absolute path."""
    if isinstance(uri, str):
        return uri
    if isinstance(uri, bytes):
        return uri.decode("utf-8", "surrogateescape")
    if isinstance(uri, os.PathLike):
        return "file://" + os.path.abspath(os.fsdecode(uri))
    raise TypeError(f"uri must be str, bytes or os.PathLike, not {type(uri).__name__}")


def split(uri):
    """("s3://bucket/", "the/key"): byte by byte, nothing is decoded."""
    text = text_of(uri)
    scheme, mark, rest = text.partition("://")
    if not mark:
        raise refusal(f"{text!r} is no URI: it has no '://'", text)
    authority, _, key = rest.partition("/")
    return f"{scheme}://{authority}/", key


def as_directory(key):
    return key if not key or key.endswith("/") else key + "/"


def capabilities(ops, base):
    told = ops.describe() if isinstance(ops, Store) else ops.describe(base)
    return told["capabilities"]


def find(ops, base, key, recursive, timeout):
    """What a directory holds: the length of its name, and the entries. None instead of them where
    there are none, but an object of that name."""
    directory = as_directory(key)
    entries = builtins.list(ops.iterate(base + directory, recursive=recursive, timeout=timeout))
    if entries or directory == key or not ops.exists(base + key, timeout=timeout):
        return len(directory), entries
    return key.rfind("/") + 1, None

"""The functions that take URIs, and Store.

What moves bytes or waits is in the extension; here it is put together."""
import datetime
import re

from . import _files, _penstock
from ._files import download, upload
from ._penstock import (
    Entry,
    ExistsError,
    InvalidArgumentError,
    Listing,
    NotFoundError,
    Store,
    UnsupportedOperationError,
    copy,
    create_container,
    delete_container,
    delete_prefix,
    describe,
    exists,
    get,
    get_into,
    get_range,
    get_suffix,
    iterate,
    presign,
    put_bytes,
    rename,
    stat,
)
from ._place import as_directory, capabilities, find, refusal, split, text_of

__all__ = [
    "Entry", "Listing", "Store", "copy", "create_bucket", "create_container", "delete",
    "delete_bucket", "delete_container", "delete_prefix", "describe", "download", "exists", "get",
    "get_bytes", "get_into", "get_object", "get_range", "get_suffix", "iterate", "list",
    "list_containers", "mkdir", "presign", "put", "put_bytes", "rename", "stat", "upload",
]


def _compile(pattern):
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from None
    if not isinstance(expression.pattern, str):
        raise TypeError("pattern must be str, not bytes")
    return expression


# ---- reading and writing -----------------------------------------------------------------------


def get_bytes(uri, *, timeout=None):
    """Read a whole object, as bytes. This copies; get, which gives a BytesView, does not."""
    return get(uri, timeout=timeout).to_bytes()


def get_object(bucket, key, *, timeout=None):
    """Read the object of this key in an S3 bucket, as a BytesView."""
    if not isinstance(bucket, str):
        raise TypeError(f"bucket must be str, not {type(bucket).__name__}")
    if not bucket or "/" in bucket:
        raise ValueError(f"bucket must be the name of one: {bucket!r}")
    if not isinstance(key, (str, bytes)):
        raise TypeError(f"key must be str or bytes, not {type(key).__name__}")
    return get(f"s3://{bucket}/{text_of(key)}", timeout=timeout)


def put(uri, data, *args, **kwargs):
    """Write a whole object, as put_bytes does. put(prefix, num, ...), which generates data, is
    not there yet."""
    if isinstance(data, int) and not isinstance(data, bool):
        raise refusal(
            "put(prefix, num, ...) arrives with data generation; put(uri, data) writes bytes",
            text_of(uri), UnsupportedOperationError)
    return put_bytes(uri, data, *args, **kwargs)


# ---- listing -----------------------------------------------------------------------------------


def list(uri, recursive=False, pattern=None, *, timeout=None):
    """List full URIs, sorted by key.

    The key is a directory, with or without its slash: "a/b" lists what is below "a/b/", never
    "a/bc", and the object "a/b" where there is nothing below. Without `recursive` that is one
    level, where directories end in a slash. `pattern`: a regular expression that is searched for
    in what comes after the directory. `timeout`: seconds for each page."""
    expression = _compile(pattern)
    base, key = split(uri)
    start, entries = find(_penstock, base, key, recursive, timeout)
    names = [key] if entries is None else [entry.key for entry in entries]
    if expression is not None:
        names = [name for name in names if expression.search(name[start:])]
    return [base + name for name in names]


def _rfc3339(time_ns):
    if time_ns is None:
        return None
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def list_containers(uri="s3://", *, timeout=None):
    """List the buckets of a provider: dicts with name, uri and creation_date (RFC 3339 or None)."""
    base, key = split(uri)
    if key:
        raise refusal("what is listed are containers: the URI has a key", base + key)
    scheme = base.partition("://")[0]
    found = []
    for entry in _penstock.iterate_containers(uri, timeout=timeout):
        name = entry.key.rstrip("/")
        found.append({"name": name, "uri": f"{scheme}://{name}/",
                      "creation_date": _rfc3339(entry.mtime_ns)})
    return found


# ---- deleting ----------------------------------------------------------------------------------


def _delete_directory(ops, name, timeout):
    try:
        ops.delete_container(name, timeout=timeout)
    except NotFoundError:
        pass


def _delete_empty_directories(ops, base, directory, timeout):
    """Deepest first: one whose last directory went is empty in the next round."""
    has_more = True
    while has_more:
        entries = ops.iterate(base + directory, empty_dirs=True, timeout=timeout)
        empty = [entry.key for entry in entries
                 if entry.kind == "prefix" and entry.key != directory]
        has_more = bool(empty)
        for key in empty:
            _delete_directory(ops, base + key, timeout)
    if directory:
        _delete_directory(ops, base + directory, timeout)


def _delete_all(store, timeout):
    """Everything in the store, page by page."""
    keys = []
    for entry in store.list(timeout=timeout):
        keys.append(entry.key)
        if len(keys) == 4000:
            store.delete_many(keys, timeout=timeout)
            keys = []
    store.delete_many(keys, timeout=timeout)


def _delete_below(ops, base, key, whole_store, timeout):
    if not key and not whole_store:
        raise refusal("this is a whole store: whole_store=True deletes all of it",
                      ops.uri if isinstance(ops, Store) else base)
    directory = as_directory(key)
    has_directories = {"empty_dirs", "container"} <= capabilities(ops, base)
    if key != directory:
        try:
            ops.delete_object(base + key, timeout=timeout)
        except InvalidArgumentError:
            if not has_directories:
                raise  # else it is a directory
    if directory:
        ops.delete_prefix(base + directory, timeout=timeout)
    elif isinstance(ops, Store):
        _delete_all(ops, timeout)
    else:
        with Store(base) as store:
            _delete_all(store, timeout)
    if has_directories:
        _delete_empty_directories(ops, base, directory, timeout)


def _check_alone(version, if_match):
    if version is not None or if_match is not None:
        raise ValueError("version and if_match are of one object: not with recursive")


def delete(uri, recursive=False, *, version=None, if_match=None, whole_store=False, timeout=None):
    """Delete exactly this object; one that is not there is no error.

    With `recursive` everything below it as well, as a directory: "a/b" deletes "a/b" and "a/b/c",
    never "a/bc", and on file:// the directories too. A whole bucket or file system, a URI without
    a key, needs `whole_store=True`. `timeout`: seconds for each step."""
    if not recursive:
        _penstock.delete_object(uri, version=version, if_match=if_match, timeout=timeout)
        return
    _check_alone(version, if_match)
    _delete_below(_penstock, *split(uri), whole_store, timeout)


# ---- containers --------------------------------------------------------------------------------


def _make_directory(ops, base, key, timeout):
    if "empty_dirs" not in capabilities(ops, base):
        return
    try:
        ops.create_container(base + key, timeout=timeout)
    except ExistsError:
        if ops.exists(base + key.rstrip("/"), timeout=timeout):
            raise  # an object


def mkdir(uri, *, timeout=None):
    """Make a directory and those above it, where the store has such (file://, direct://); on
    object stores, where a directory is just a part of keys, nothing is done."""
    _make_directory(_penstock, *split(uri), timeout)


def _bucket_uri(name):
    name = text_of(name)
    return name if "://" in name else f"s3://{name}/"


def create_bucket(bucket_name, *, timeout=None):
    """Create a bucket: an S3 name, or a URI of any scheme."""
    create_container(_bucket_uri(bucket_name), timeout=timeout)


def delete_bucket(bucket_name, *, timeout=None):
    """Delete an empty bucket: an S3 name, or a URI of any scheme."""
    delete_container(_bucket_uri(bucket_name), timeout=timeout)


# ---- methods of Store --------------------------------------------------------------------------


class _Methods(_files.Methods):
    """What Store has of it, by key."""

    def get_bytes(self, key, *, timeout=None):
        """Read a whole object, as bytes: get_bytes()."""
        return self.get(key, timeout=timeout).to_bytes()

    def delete(self, key, recursive=False, *, version=None, if_match=None, whole_store=False,
               timeout=None):
        """Delete exactly this object, or with `recursive` what is below it as well: delete()."""
        if not recursive:
            self.delete_object(key, version=version, if_match=if_match, timeout=timeout)
            return
        _check_alone(version, if_match)
        _delete_below(self, "", text_of(key), whole_store, timeout)

    def mkdir(self, key, *, timeout=None):
        """Make a directory, where the store has such: mkdir()."""
        _make_directory(self, "", text_of(key), timeout)


for _class in (_files.Methods, _Methods):
    for _name, _function in vars(_class).items():
        if not _name.startswith("_"):
            _function.__qualname__ = "Store." + _name
            _function.__module__ = "penstock"
            setattr(Store, _name, _function)

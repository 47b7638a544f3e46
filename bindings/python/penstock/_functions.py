"""The functions that take URIs, and Store.

What moves bytes or waits is in the extension; here it is put together."""
import builtins
import datetime
import glob
import os
import re

from . import _penstock
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

__all__ = [
    "Entry", "Listing", "Store", "copy", "create_bucket", "create_container", "delete",
    "delete_bucket", "delete_container", "delete_prefix", "describe", "download", "exists", "get",
    "get_bytes", "get_into", "get_object", "get_range", "get_suffix", "iterate", "list",
    "list_containers", "mkdir", "presign", "put", "put_bytes", "rename", "stat", "upload",
]


def _text(uri):
    """A URI as str; a path object stands for file:// and its absolute path."""
    if isinstance(uri, str):
        return uri
    if isinstance(uri, bytes):
        return os.fsdecode(uri)
    return "file://" + os.path.abspath(os.fsdecode(os.fspath(uri)))


def _split(uri):
    """("s3://bucket/", "the/key"): byte by byte, nothing is decoded."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        raise InvalidArgumentError(f"{uri!r} is no URI: it has no '://'")
    authority, _, key = rest.partition("/")
    return f"{scheme}://{authority}/", key


def _as_directory(key):
    return key if not key or key.endswith("/") else key + "/"


def _compile(pattern):
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from None


# ---- reading and writing -----------------------------------------------------------------------


def get_bytes(uri, *, timeout=None):
    """Read a whole object, as bytes. This copies; get, which gives a BytesView, does not."""
    return get(uri, timeout=timeout).to_bytes()


def get_object(bucket, key, *, timeout=None):
    """Read the object of this key in an S3 bucket, as a BytesView."""
    return get(f"s3://{bucket}/{key}", timeout=timeout)


def put(uri, data, *args, **kwargs):
    """Write a whole object, as put_bytes does. put(prefix, num, ...), which generates data, is
    not there yet."""
    if isinstance(data, int) and not isinstance(data, bool):
        raise UnsupportedOperationError(
            "put(prefix, num, ...) arrives with data generation; put(uri, data) writes bytes")
    return put_bytes(uri, data, *args, **kwargs)


# ---- listing -----------------------------------------------------------------------------------


def _find(uri, recursive, timeout):
    """What a directory, or failing that the object of that name, holds: base, the length of what
    comes before the relative names, and the entries."""
    base, key = _split(_text(uri))
    directory = _as_directory(key)
    entries = builtins.list(iterate(base + directory, recursive=recursive, timeout=timeout))
    if entries or directory == key or not exists(base + key, timeout=timeout):
        return base, len(directory), entries
    return base, key.rfind("/") + 1, None


def list(uri, recursive=False, pattern=None, *, timeout=None):
    """List full URIs, sorted by key.

    The key is a directory, with or without its slash: "a/b" lists what is below "a/b/", never
    "a/bc", and the object "a/b" where there is nothing below. Without `recursive` that is one
    level, where directories end in a slash. `pattern`: a regular expression that is searched for
    in what comes after the directory. `timeout`: seconds for each page."""
    expression = _compile(pattern)
    base, start, entries = _find(uri, recursive, timeout)
    if entries is None:
        names = [_split(_text(uri))[1]]
    else:
        names = [entry.key for entry in entries]
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
    scheme = _text(uri).partition("://")[0]
    found = []
    for entry in _penstock.iterate_containers(uri, timeout=timeout):
        name = entry.key.rstrip("/")
        found.append({"name": name, "uri": f"{scheme}://{name}/",
                      "creation_date": _rfc3339(entry.mtime_ns)})
    return found


# ---- deleting ----------------------------------------------------------------------------------


def _delete_empty_directories(base, directory, timeout):
    """Deepest first: one whose last directory went is empty in the next round."""
    has_more = True
    while has_more:
        empty = [entry.key for entry in iterate(base + directory, empty_dirs=True, timeout=timeout)
                 if entry.kind == "prefix" and entry.key != directory]
        has_more = bool(empty)
        for key in empty:
            _delete_directory(base + key, timeout)
    if directory:
        _delete_directory(base + directory, timeout)


def _delete_directory(uri, timeout):
    try:
        delete_container(uri, timeout=timeout)
    except NotFoundError:
        pass


def _delete_all(base, timeout):
    """Everything in the store, page by page."""
    with Store(base) as store:
        keys = []
        for entry in store.list(timeout=timeout):
            keys.append(entry.key)
            if len(keys) == 4000:
                store.delete_many(keys, timeout=timeout)
                keys = []
        store.delete_many(keys, timeout=timeout)


def delete(uri, recursive=False, *, version=None, if_match=None, whole_store=False, timeout=None):
    """Delete exactly this object; one that is not there is no error.

    With `recursive` everything below it as well, as a directory: "a/b" deletes "a/b" and "a/b/c",
    never "a/bc", and on file:// the directories too. A whole bucket or file system, a URI without
    a key, needs `whole_store=True`. `timeout`: seconds for each step."""
    if not recursive:
        _penstock.delete_object(uri, version=version, if_match=if_match, timeout=timeout)
        return
    if version is not None or if_match is not None:
        raise ValueError("version and if_match are of one object: not with recursive")
    base, key = _split(_text(uri))
    if not key and not whole_store:
        raise InvalidArgumentError(f"{uri!r} is a whole store: whole_store=True deletes all of it")
    directory = _as_directory(key)
    has_directories = {"empty_dirs", "container"} <= describe(base)["capabilities"]
    if key != directory:
        try:
            _penstock.delete_object(base + key, timeout=timeout)
        except InvalidArgumentError:
            if not has_directories:
                raise  # else it is a directory
    if directory:
        delete_prefix(base + directory, timeout=timeout)
    else:
        _delete_all(base, timeout)
    if has_directories:
        _delete_empty_directories(base, directory, timeout)


# ---- containers --------------------------------------------------------------------------------


def mkdir(uri, *, timeout=None):
    """Make a directory and those above it, where the store has such (file://, direct://); on
    object stores, where a directory is just a part of keys, nothing is done."""
    if "empty_dirs" not in describe(uri)["capabilities"]:
        return
    try:
        create_container(uri, timeout=timeout)
    except ExistsError:
        if exists(_text(uri).rstrip("/"), timeout=timeout):
            raise  # an object


def _bucket_uri(name):
    return name if "://" in name else f"s3://{name}/"


def create_bucket(bucket_name, *, timeout=None):
    """Create a bucket: an S3 name, or a URI of any scheme."""
    create_container(_bucket_uri(bucket_name), timeout=timeout)


def delete_bucket(bucket_name, *, timeout=None):
    """Delete an empty bucket: an S3 name, or a URI of any scheme."""
    delete_container(_bucket_uri(bucket_name), timeout=timeout)


# ---- files -------------------------------------------------------------------------------------


def _bar(progress, n_objects):
    """progress=True shows a bar of tqdm's, if that is installed."""
    if progress is not True:
        return progress, None
    try:
        import tqdm
    except ImportError:
        return None, None
    bar = tqdm.tqdm(total=n_objects, unit="object")
    return (lambda n_done, n_bytes: bar.update(n_done - bar.n)), bar


def _transfer(pairs, max_in_flight, progress, timeout, target=None):
    tell, bar = _bar(progress, len(pairs))
    try:
        _penstock.transfer(pairs, max_in_flight, target=target, progress=tell, timeout=timeout)
    finally:
        if bar is not None:
            bar.close()
    return len(pairs)


def _add_file(files, key, path):
    if key in files:
        raise InvalidArgumentError(f"{files[key]!r} and {path!r} would both become {key!r}")
    files[key] = path


def _add_source(files, source):
    """The files that one argument of upload stands for, by what they will be called."""
    path = os.fsdecode(os.fspath(source))
    found = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
    if not found:
        raise NotFoundError(f"no file is called, or matches, {path!r}")
    for one in found:
        one = os.path.abspath(one)
        name = os.path.basename(one)
        if not os.path.isdir(one):
            _add_file(files, name, one)
            continue
        for directory, names, leaves in os.walk(one):
            names.sort()
            for leaf in sorted(leaves):
                whole = os.path.join(directory, leaf)
                _add_file(files, os.path.join(name, os.path.relpath(whole, one)), whole)


def upload(src_patterns, dest_prefix, max_in_flight=32, create_bucket=False, *, progress=None,
           timeout=None):
    """Copy local files to below `dest_prefix`. Returns how many.

    `src_patterns`: paths or glob patterns; of a directory all files below it are copied, with its
    name before theirs. Two files that would get one key are refused before anything is copied.
    `progress`: called with the numbers of objects and bytes, or True for a bar. The first failure
    stops the rest and is raised."""
    if isinstance(src_patterns, (str, bytes, os.PathLike)):
        src_patterns = [src_patterns]
    files = {}
    base, key = _split(_text(dest_prefix))
    for source in src_patterns:
        _add_source(files, source)
    if create_bucket:
        try:
            create_container(base, timeout=timeout)
        except ExistsError:
            pass
    prefix = base + _as_directory(key)
    pairs = [("file://" + path, prefix + name) for name, path in files.items()]
    return _transfer(pairs, max_in_flight, progress, timeout)


def _check_names(names):
    """Before anything is written: is each a path below the destination, and a file of its own?"""
    directories = set()
    for name in names:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise InvalidArgumentError(f"the key {name!r} cannot be the name of a file")
        for n in range(1, len(parts)):
            directories.add("/".join(parts[:n]))
    for name in names:
        if name in directories:
            raise InvalidArgumentError(f"the key {name!r} would be a file and a directory")


def download(src_uri, dest_dir, max_in_flight=64, recursive=True, *, progress=None, timeout=None):
    """Copy an object, or what is below a directory of objects, to files below `dest_dir`. Returns
    how many.

    Keys become paths as they are; one that cannot be a path below `dest_dir`, or would be a file
    and a directory, is refused before anything is copied. `progress` and failures as in upload."""
    base, start, entries = _find(src_uri, recursive, timeout)
    if entries is None:
        keys = [_split(_text(src_uri))[1]]
    else:
        keys = [entry.key for entry in entries if entry.kind == "object"]
    if not keys:
        raise NotFoundError(f"there is no object at, or below, {_text(src_uri)!r}")
    names = [key[start:] for key in keys]
    _check_names(names)
    directory = os.path.abspath(os.fsdecode(os.fspath(dest_dir)))
    os.makedirs(directory, exist_ok=True)
    with Store("file:///", {"root": directory}) as target:
        pairs = [(base + key, name) for key, name in zip(keys, names)]
        return _transfer(pairs, max_in_flight, progress, timeout, target)

"""Every store of Penstock as a file system of fsspec.

    fsspec.open("penstock+s3://bucket/key")         pandas, pyarrow and Dask take such URLs too
    PenstockFileSystem("acme", region="north")      any scheme that there is a plugin for

fsspec's `storage_options` are the options of the store. Nothing is cached: what is listed is there. A
file that is written appears when it is closed, and does not when an exception ends its `with` block,
or when it is dropped unfinished. That holds for what `open` of a file system gives; the `with` of
`fsspec.open` itself closes what it opened, whatever happened.
"""
import datetime
import io
import os
import re
import threading

from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.registry import register_implementation
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.utils import stringify_path

import penstock
from penstock._penstock import transfer

if not hasattr(AbstractFileSystem, "to_dict"):  # its to_json would tell secrets
    raise ImportError("penstock.fsspec needs fsspec 2024.6.1 or later")

__all__ = ["PenstockFile", "PenstockFileSystem", "PenstockLocalFileSystem",
           "PenstockDirectFileSystem", "PenstockS3FileSystem"]

_PROTOCOL = re.compile(r"(?:penstock\+)?([A-Za-z][A-Za-z0-9+.-]*)://")
# What fsspec itself means by an argument; all others are options of the store.
_OWN_OPTIONS = {"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache",
                "asynchronous", "loop", "batch_size", "auto_mkdir"}
_LOCAL = ("file", "direct")


class PenstockFileSystem(AbstractFileSystem):
    """The stores of one scheme. Paths are "container/key"; those of local files are absolute."""

    protocol = "penstock"
    scheme: str | None = None  # of subclasses
    root_marker = ""
    cachable = True

    def __init__(self, scheme=None, *, credentials=None, **options):
        own = {name: options.pop(name) for name in _OWN_OPTIONS & set(options)}
        super().__init__(**own)
        if self.scheme is None:
            if scheme is None:
                raise ValueError("scheme: which one, for example PenstockFileSystem('s3')")
            self.scheme = scheme
        elif scheme not in (None, self.scheme):
            raise ValueError(f"{type(self).__name__} is for {self.scheme}://, not {scheme}://")
        if self.scheme in _LOCAL:
            self.root_marker = "/"
        self._options = options
        self._credentials = credentials
        self._stores = {}
        self._lock = threading.Lock()

    # ---- what travels: secrets do not

    def _public_options(self):
        own = {name: value for name, value in self.storage_options.items() if name in _OWN_OPTIONS}
        if self._options or isinstance(self._credentials, dict):
            own.update(self._locate(self.root_marker)[0].options)
        return own

    def __reduce__(self):
        options = self._public_options()
        if callable(self._credentials):
            options["credentials"] = self._credentials
        return _make, (type(self), self.scheme, options)

    def to_dict(self, **kwargs):
        told = super().to_dict(**kwargs)
        public = self._public_options()
        return {name: value for name, value in told.items()
                if name in ("cls", "protocol", "args") or name in public}

    # ---- paths

    @classmethod
    def _get_kwargs_from_urls(cls, url):
        match = _PROTOCOL.match(stringify_path(url))
        if match and cls.scheme is None and match[1] != "penstock":
            return {"scheme": match[1]}
        return {}

    @classmethod
    def _strip_protocol(cls, path):
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = stringify_path(path)
        match = _PROTOCOL.match(path)
        if match:
            path = path[match.end():]
        is_local = (cls.scheme or (match and match[1])) in _LOCAL
        if is_local and not path.startswith("/"):
            path = os.path.join(os.getcwd(), path)
        return path.rstrip("/") or ("/" if is_local else cls.root_marker)

    def unstrip_protocol(self, name):
        return f"penstock+{self.scheme}://{self._strip_protocol(name)}"

    def _uri(self, path):
        return f"{self.scheme}://{self._strip_protocol(path)}"

    def _locate(self, path):
        """The store that a path lies in, and its key there."""
        path = self._strip_protocol(path)
        authority, _, key = path.partition("/")
        with self._lock:
            if authority not in self._stores:
                self._stores[authority] = penstock.Store(
                    f"{self.scheme}://{authority}/", self._options, credentials=self._credentials)
            return self._stores[authority], key

    def _by_store(self, paths):
        found = {}
        for path in paths:
            store, key = self._locate(path)
            found.setdefault(store, []).append((path, key))
        return found

    # ---- looking

    def _entry_info(self, authority, entry):
        name = f"{authority}/{entry.key}"
        if entry.kind != "object":
            return {"name": name.rstrip("/"), "size": 0, "type": "directory"}
        return self._file_info(name, entry.size, entry.etag, entry.mtime_ns)

    @staticmethod
    def _file_info(name, size, etag, mtime_ns):
        info = {"name": name, "size": size, "type": "file", "ETag": etag}
        if mtime_ns is not None:
            info["mtime"] = mtime_ns / 1e9
        return info

    def _list(self, path, recursive):
        store, key = self._locate(path)
        authority = self._strip_protocol(path).partition("/")[0]
        prefix = key + "/" if key else ""
        for entry in store.list(prefix, recursive=recursive):
            is_marker = entry.kind == "object" and entry.key.endswith("/") and not entry.size
            if not is_marker:  # which some tools leave for a directory
                yield self._entry_info(authority, entry)

    def _is_directory(self, path):
        store, key = self._locate(path)
        if not key:
            for _ in store.list("", recursive=False):
                break
            return True  # or listing it raised
        if self.scheme in _LOCAL:  # an empty directory has no keys, but its name in its parent
            return any(entry.key == key + "/" for entry in store.list(key, recursive=False))
        return next(iter(store.list(key + "/")), None) is not None

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        directory = {"name": path, "size": 0, "type": "directory"}
        if path == self.root_marker:
            return directory
        store, key = self._locate(path)
        try:
            if key:
                found = store.stat(key)
                return {**found, **self._file_info(path, found["size"], found["etag"],
                                                   found["mtime_ns"])}
        except FileNotFoundError:
            pass
        if self._is_directory(path):
            return directory
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        if path == "" and self.root_marker == "":
            infos = [{"name": container.key.rstrip("/"), "size": 0, "type": "directory"}
                     for container in self._locate("")[0].list_containers()]
        else:
            infos = sorted(self._list(path, recursive=False), key=lambda info: info["name"])
            if not infos:
                info = self.info(path)
                infos = [info] if info["type"] == "file" else []
        return infos if detail else [info["name"] for info in infos]

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        path = self._strip_protocol(path)
        if maxdepth is not None or withdirs or path == "":
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        infos = {info["name"]: info for info in self._list(path, recursive=True)}
        if not infos and self.isfile(path):
            infos[path] = self.info(path)
        return infos if detail else sorted(infos)

    def modified(self, path):
        info = self.info(path)
        if info.get("mtime") is None:
            raise FileNotFoundError(path)
        return datetime.datetime.fromtimestamp(info["mtime"], datetime.timezone.utc)

    def created(self, path):
        return self.modified(path)  # objects are replaced, never changed

    def sign(self, path, expiration=100, **kwargs):
        store, key = self._locate(path)
        return store.presign(key, expires_s=expiration)

    # ---- reading

    def open(self, path, mode="rb", block_size=None, cache_options=None, compression=None,
             **kwargs):
        if "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline")
                if name in kwargs}
        whole = mode if "b" in mode else mode.replace("t", "") + "b"
        file = super().open(path, whole, block_size, **kwargs)
        compression = get_compression(path, compression)
        if compression is not None:
            file = _Compressor(file, compression)
        return file if "b" in mode else penstock.TextWriter(file, **text)

    def _open(self, path, mode="rb", block_size=None, autocommit=True, cache_options=None,
              **kwargs):
        return PenstockFile(self, path, mode, block_size or "default", autocommit,
                            cache_options=cache_options, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        store, key = self._locate(path)
        if (start is not None and start < 0) or (end is not None and end < 0):
            size = store.stat(key)["size"]
            start = max(0, size + start) if start is not None and start < 0 else start
            end = max(0, size + end) if end is not None and end < 0 else end
        start = start or 0
        if start == 0 and end is None:
            return store.get(key).to_bytes()
        length = None if end is None else max(0, end - start)
        return store.get_range(key, start, length).to_bytes()

    def cat(self, path, recursive=False, on_error="raise", **kwargs):
        paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and paths[0] == path and not isinstance(path, list):
            return self.cat_file(paths[0], **kwargs)
        if kwargs:
            return super().cat(path, recursive=recursive, on_error=on_error, **kwargs)
        out = dict.fromkeys(paths)
        for found, result in self._get_many(paths):
            if not isinstance(result, Exception):
                out[found] = result.to_bytes()
            elif on_error == "raise":
                if not self.isdir(found):
                    raise result
                del out[found]
            elif on_error == "return":
                out[found] = result
            else:
                del out[found]
        return out

    def _get_many(self, paths):
        """(path, view or exception) of each, read side by side."""
        for store, pairs in self._by_store(paths).items():
            results = store.get_many([key for _, key in pairs], return_exceptions=True)
            yield from zip((path for path, _ in pairs), (result for _, result in results))

    def cat_ranges(self, paths, starts, ends, max_gap=None, on_error="return", **kwargs):
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("paths, starts and ends differ in length")
        out = [None] * len(paths)
        by_path = {}
        for i, path in enumerate(paths):
            by_path.setdefault(path, []).append(i)
        for path, indices in by_path.items():
            try:
                bounds = [(starts[i] or 0, ends[i]) for i in indices]
                if any(start < 0 or (end is not None and end < 0) for start, end in bounds):
                    parts = [self.cat_file(path, start, end) for start, end in bounds]
                else:
                    store, key = self._locate(path)
                    views = store.get_ranges(key, [
                        (start, None if end is None else max(0, end - start))
                        for start, end in bounds])
                    parts = [view.to_bytes() for view in views]
            except Exception as error:
                if on_error != "return":
                    raise
                parts = [error] * len(indices)
            for i, part in zip(indices, parts):
                out[i] = part
        return out

    # ---- writing

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        store, key = self._locate(path)
        store.put(key, value, create_only=mode == "create")

    def cp_file(self, path1, path2, **kwargs):
        from_store, from_key = self._locate(path1)
        to_store, to_key = self._locate(path2)
        try:
            if from_store is to_store:
                from_store.copy(from_key, to_key)
            elif not self._options and self._credentials is None:
                penstock.copy(self._uri(path1), self._uri(path2))
            else:
                transfer([(from_key, to_key)], source=from_store, target=to_store)
        except (FileNotFoundError, penstock.InvalidArgumentError):
            if not self.isdir(path1):
                raise
            self.makedirs(path2, exist_ok=True)

    def _rm(self, path):
        self.rm_file(path)

    def rm_file(self, path):
        store, key = self._locate(path)
        store.delete(key)

    def rm(self, path, recursive=False, maxdepth=None):
        paths = self.expand_path(path, recursive=recursive, maxdepth=maxdepth)
        if self.scheme not in _LOCAL:
            for store, pairs in self._by_store(paths).items():
                keys = [key for _, key in pairs if key]
                markers = [key + "/" for key in keys] if recursive else []
                store.delete_many(keys + markers)
            return
        for one in reversed(paths):
            if self.info(one)["type"] != "directory":
                self.rm_file(one)
            elif recursive:
                self.rmdir(one)
            else:
                raise IsADirectoryError(one)

    def mkdir(self, path, create_parents=True, **kwargs):
        path = self._strip_protocol(path)
        store, key = self._locate(path)
        if self.scheme in _LOCAL:
            store.create_container(key)
        elif not key:
            store.create_container("")

    def makedirs(self, path, exist_ok=False):
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)
        if self.scheme in _LOCAL or not self._locate(path)[1]:
            try:
                self.mkdir(path)
            except FileExistsError:
                if not exist_ok:
                    raise

    def rmdir(self, path):
        store, key = self._locate(path)
        if self.scheme in _LOCAL or not key:
            store.delete_container(key)


class PenstockFile(AbstractBufferedFile):
    """A file of a PenstockFileSystem: reads one version through a cache of fsspec's, writes parts."""

    _writer = None

    def __init__(self, fs, path, mode="rb", block_size="default", autocommit=True, **kwargs):
        if mode not in ("rb", "wb", "xb"):
            raise NotImplementedError(f"{mode}: objects are read (rb) or written whole (wb, xb)")
        super().__init__(fs, path, mode, block_size, autocommit, **kwargs)
        self._store, self._key = fs._locate(path)
        self._if_match = self._strong_etag() if mode == "rb" else None
        if mode == "xb" and self._store.exists(self._key):
            raise FileExistsError(path)  # early; publishing it asks the store once more
        if mode != "rb":
            self._writer = self._store.open_writer(self._key, create_only=mode == "xb")

    def _strong_etag(self):
        """The etag that all reads ask for, where the store can be asked so."""
        is_strong = self.details.get("etag_strength") == "strong"
        can_ask = "read_if_match" in self._store.describe()["capabilities"]
        return self.details["ETag"] if is_strong and can_ask else None

    def _fetch_range(self, start, end):
        try:
            return self._store.get_range(self._key, start, end - start,
                                         if_match=self._if_match).to_bytes()
        except penstock.PreconditionError as error:
            changed = penstock.ChangedError(str(error))
            changed.uri = error.uri
            raise changed from error

    def write(self, data):
        if not self.writable():
            raise ValueError("the file is not open for writing")
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        with memoryview(data) as view:
            n = view.nbytes
        self._writer.write(data)
        self.loc += n
        return n

    def flush(self, force=False):
        """Bytes travel when a part is full; until the file is closed nobody sees them."""
        if self.closed:
            raise ValueError("Flush on closed file")

    def close(self):
        if self.closed or self._writer is None:
            super().close()
            return
        try:
            if self.autocommit:
                self.commit()
        finally:
            self.closed = True

    def commit(self):
        self._writer.finalize()

    def discard(self):
        """Leave nothing of what was written."""
        if self._writer is not None:
            self._writer.cancel()
        self.closed = True

    def __exit__(self, type, value, traceback):
        if type is not None and self._writer is not None and not self.closed:
            self.discard()
        else:
            self.close()

    def __del__(self):
        if self._writer is None:
            self.closed = True
        elif not self.closed:
            self.discard()


class _Compressor(io.BufferedIOBase):
    """Bytes that are compressed into a PenstockFile: closing this closes that, and what drops this drops
    that. The compressors themselves leave the file below them open."""

    def __init__(self, file, compression):
        self._file = file
        self._n_written = 0
        self._compressor = compr[compression](file, mode="w")

    def writable(self):
        return True

    def write(self, data):
        self._compressor.write(data)
        with memoryview(data) as view:
            self._n_written += view.nbytes
            return view.nbytes

    def tell(self):
        return self._n_written

    def close(self):
        if self.closed:
            return
        try:
            self._compressor.close()
        except BaseException:
            self.discard()
            raise
        super().close()
        self._file.close()

    def discard(self):
        super().close()
        self._file.discard()

    def __exit__(self, kind, value, trace):
        if kind is not None and not self.closed:
            self.discard()
        self.close()

    def __del__(self):
        if not self.closed and hasattr(self, "_file"):
            self.discard()


class PenstockLocalFileSystem(PenstockFileSystem):
    """penstock+file:///absolute/path"""

    protocol = "penstock+file"
    scheme = "file"
    root_marker = "/"


class PenstockDirectFileSystem(PenstockFileSystem):
    """penstock+direct:///absolute/path"""

    protocol = "penstock+direct"
    scheme = "direct"
    root_marker = "/"


class PenstockS3FileSystem(PenstockFileSystem):
    """penstock+s3://bucket/key"""

    protocol = "penstock+s3"
    scheme = "s3"


def _make(cls, scheme, options):
    return cls(scheme, **options)


# What was installed is found by entry points; a package that was not is found once it is imported.
for _class in (PenstockLocalFileSystem, PenstockDirectFileSystem, PenstockS3FileSystem):
    register_implementation(_class.protocol, _class, clobber=True)

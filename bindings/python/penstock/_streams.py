"""Streams: writers by kind of store, and readers and writers as files."""
import codecs
import io
import os
import time

from ._penstock import (
    NoSchemeError,
    ObjectWriter,
    UnsupportedOperationError,
    get_many,
    get_ranges,
    open_reader,
    open_writer,
    put_many,
)

__all__ = [
    "MultipartUploadWriter",
    "ObjectWriter",
    "PyObjectWriter",
    "PyWriterOptions",
    "Reader",
    "TextWriter",
    "WriterFile",
    "WriterOptions",
    "create_azure_writer",
    "create_direct_filesystem_writer",
    "create_filesystem_writer",
    "create_s3_writer",
    "get_many",
    "get_ranges",
    "open",
    "open_reader",
    "open_writer",
    "put_many",
]

_BUFFER_BYTES = 128 << 10  # of what open() puts around a reader
_MARKS = {"utf-16": codecs.BOM_UTF16, "utf-32": codecs.BOM_UTF32}  # what text begins with


# ---- writers by kind of store ------------------------------------------------------------------------


class WriterOptions:
    """How a writer stores its object. Each with_ changes the options and returns them."""

    __slots__ = ("compression", "compression_level", "buffer_size")

    def __init__(self):
        self.compression = None
        self.compression_level = None
        self.buffer_size = None

    def with_compression(self, compression_type, level=None):
        """Compress with 'zstd' at level 1 to 22 (None: 3); '.zst' is appended to the name."""
        if not isinstance(compression_type, str):
            raise TypeError(f"compression_type must be str, not {type(compression_type).__name__}")
        if compression_type.lower() != "zstd":
            raise ValueError(f"the compression is 'zstd', not {compression_type!r}")
        self.compression_level = _int_between("level", 3 if level is None else level, 1, 22)
        self.compression = "zstd"
        return self

    def with_buffer_size(self, size):
        """Fill parts of about `size` bytes, within what the store takes."""
        self.buffer_size = _int_between("size", size, 1, 1 << 40)
        return self

    def __repr__(self):
        parts = []
        if self.compression:
            parts.append(f".with_compression({self.compression!r}, {self.compression_level})")
        if self.buffer_size:
            parts.append(f".with_buffer_size({self.buffer_size})")
        return "WriterOptions()" + "".join(parts)


PyWriterOptions = WriterOptions
PyObjectWriter = ObjectWriter


def _int_between(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must lie in {least} to {most}, not {value}")
    return value


def _text_of(uri):
    """The URI as str; bytes and paths as surrogate escapes."""
    if isinstance(uri, str):
        return uri
    if isinstance(uri, bytes):
        return uri.decode("utf-8", "surrogateescape")
    if isinstance(uri, os.PathLike):
        return "file://" + os.path.abspath(os.fsdecode(uri))
    raise TypeError(f"uri must be str, bytes or os.PathLike, not {type(uri).__name__}")


def _create(uri, options, schemes, to=None):
    uri = _text_of(uri)
    scheme, found, rest = uri.partition("://")
    if not found or scheme.lower() not in schemes:
        wanted = " or ".join(name + "://" for name in schemes)
        raise ValueError(f"the URI must begin with {wanted}: {uri!r}")
    if to:
        uri = f"{to}://{rest}"
    if options is None:
        return open_writer(uri)
    if not isinstance(options, WriterOptions):
        raise TypeError(f"options must be WriterOptions, not {type(options).__name__}")
    if options.compression and not uri.endswith(".zst"):
        uri += ".zst"
    return open_writer(
        uri, compression_level=options.compression_level, buffer_bytes=options.buffer_size
    )


def create_filesystem_writer(uri, options=None):
    """Start a file: an ObjectWriter. Readers see it when it is finalized."""
    return _create(uri, options, ("file",))


def create_direct_filesystem_writer(uri, options=None):
    """Start a file that does not go through the page cache: an ObjectWriter."""
    return _create(uri, options, ("direct", "file"), to="direct")


def create_s3_writer(uri, options=None):
    """Start an object of S3: an ObjectWriter."""
    return _create(uri, options, ("s3",))


def create_azure_writer(uri, options=None):
    """Start an object of Azure; says which plugin is missing where there is none."""
    try:
        return _create(uri, options, ("az", "abfs", "abfss"))
    except NoSchemeError as error:
        missing = UnsupportedOperationError(f"the plugin 'azure' is not installed: {error}")
        missing.uri = error.uri
        raise missing from None


class MultipartUploadWriter:
    """An upload in parts: close() completes it, abort() or an exception drops it."""

    def __init__(
        self,
        bucket,
        key,
        part_size=None,
        max_in_flight=None,
        content_type=None,
        abort_on_drop=None,
    ):
        for name, value in (("bucket", bucket), ("key", key)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be str, not {type(value).__name__}")
        if not bucket or "/" in bucket:
            raise ValueError(f"bucket must be the name of one: {bucket!r}")
        self._start(f"s3://{bucket}/{key}", part_size, max_in_flight, content_type, abort_on_drop)

    @classmethod
    def from_uri(
        cls, uri, part_size=None, max_in_flight=None, content_type=None, abort_on_drop=None
    ):
        """Start an upload to a URI, of any scheme that objects can be written to."""
        self = cls.__new__(cls)
        self._start(uri, part_size, max_in_flight, content_type, abort_on_drop)
        return self

    def _start(self, uri, part_size, max_in_flight, content_type, abort_on_drop):
        if abort_on_drop is not None and not abort_on_drop:
            raise ValueError("abort_on_drop=False: an upload that is dropped is always aborted")
        self._result = None
        self._started_at = time.time()
        self._writer = open_writer(
            uri, part_bytes=part_size, max_in_flight=max_in_flight, content_type=content_type
        )

    def write(self, data, *, copy=False):
        """Append bytes; without copy=True they must not change before close()."""
        self._writer.write_owned_bytes(data, copy=copy)

    def reserve(self, size):
        """Lend memory to fill: a writable memoryview of `size` bytes."""
        return self._writer.reserve(size)

    def commit(self, nbytes=None):
        """Append the first `nbytes` (None: all) of what was reserved."""
        self._writer.commit(nbytes)

    def flush(self):
        """Does nothing: parts travel as soon as they are full, the rest with close()."""

    def close(self):
        """Complete the upload and tell what it is; may be repeated."""
        if self._result is None:
            total, _ = self._writer.finalize()
            self._result = {
                "etag": self._writer.etag,
                "version_id": self._writer.version,
                "total_bytes": total,
                "parts": self._writer.parts,
                "started_at": self._started_at,
                "completed_at": time.time(),
            }
        return dict(self._result)

    def abort(self):
        """Drop the upload and leave nothing behind; may be repeated."""
        self._writer.cancel()

    def __enter__(self):
        self._writer.__enter__()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self._writer.__exit__(kind, value, trace)
        elif not self._writer.closed:
            try:
                self.close()
            except BaseException as error:
                self._writer.__exit__(type(error), error, error.__traceback__)
                raise


# ---- files -------------------------------------------------------------------------------------------


class Reader(io.RawIOBase):
    """An object as a raw binary file; open_reader makes one."""

    def __init__(self, raw, name):
        self._raw = raw
        self.name = name
        self.mode = "rb"

    def readable(self):
        self._checkClosed()
        return True

    def seekable(self):
        """All but what is decompressed on the way."""
        self._checkClosed()
        return not self._raw.decoded

    def read(self, size=-1, /):
        """Read `size` bytes, fewer only at the end; all of them for -1."""
        return self._raw.read(size)

    def readall(self):
        """Read from here to the end."""
        return self._raw.read(-1)

    def readinto(self, buffer, /):
        """Fill the buffer and return how many bytes that took, fewer only at the end."""
        return self._raw.readinto(buffer)

    def write(self, data, /):
        """A reader does not write."""
        self._checkClosed()
        raise io.UnsupportedOperation("the object is not open for writing")

    def seek(self, offset, whence=0, /):
        """Go to another place; nothing is read. From the end asks for the size once."""
        if self._raw.decoded:
            raise io.UnsupportedOperation("what is decompressed on the way has no places to seek")
        return self._raw.seek(offset, whence)

    def tell(self):
        self._checkClosed()
        return self._raw.tell()

    def size(self):
        """Tell the length of the object; None for what is decompressed on the way."""
        return self._raw.size()

    def close(self):
        if not self.closed:
            self._raw.close()
        super().close()

    def __repr__(self):
        return f"<penstock.Reader {self.name!r}>"


class WriterFile(io.RawIOBase):
    """An ObjectWriter as a binary file: close() publishes the object, an exception in the `with` block
    or the last reference gone drops it."""

    def __init__(self, writer, mode="wb"):
        if not isinstance(writer, ObjectWriter):
            raise TypeError(f"writer must be ObjectWriter, not {type(writer).__name__}")
        self._writer = writer
        self.name = writer.uri
        self.mode = mode

    def writable(self):
        self._checkClosed()
        return True

    def write(self, data, /):
        self._checkClosed()
        return self._writer.write(data)

    def readinto(self, buffer, /):
        """A writer does not read, in none of the ways that end here."""
        self._checkClosed()
        raise io.UnsupportedOperation("the object is not open for reading")

    def tell(self):
        self._checkClosed()
        return self._writer.bytes_written()

    def discard(self):
        """Drop the object and close the file."""
        try:
            if not self.closed:
                self._writer.cancel()
        finally:
            super().close()

    def close(self):
        if self.closed:
            return
        try:
            if not self._writer.closed:
                self._writer.finalize()
        except BaseException as error:
            self._writer.__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            super().close()

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.close()
        else:
            self._drop()

    def __del__(self):
        # That of io.IOBase would publish what was left half written.
        if hasattr(self, "_writer"):
            self._drop()

    def _drop(self):
        if not self._writer.closed:
            self._writer.__exit__(Exception, None, None)
        super().close()

    def __repr__(self):
        return f"<penstock.WriterFile {self.name!r}>"


class TextWriter(io.TextIOWrapper):
    """Text into a WriterFile, or another file that has a discard(): close() publishes the object, an
    exception in the `with` block or the last reference gone drops it."""

    def __init__(self, file, encoding="utf-8", errors=None, newline=None, line_buffering=False):
        if not hasattr(file, "discard"):
            raise TypeError(f"file must be WriterFile, not {type(file).__name__}")
        super().__init__(file, encoding, errors, newline, line_buffering)
        # Where nothing can be sought io.TextIOWrapper takes it that other text may come before.
        mark = _MARKS.get(codecs.lookup(self.encoding).name)
        if mark and file.tell() == 0:
            file.write(mark)

    def discard(self):
        """Drop the object and close the file."""
        self.buffer.discard()

    def close(self):
        if self.closed:
            return
        try:
            self.flush()
        except BaseException:
            self.discard()  # that of io.TextIOWrapper would publish what came before
            raise
        super().close()

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.close()
        else:
            self.buffer.__exit__(kind, value, trace)

    def __del__(self):
        # That of io.IOBase would publish what was left half written.
        try:
            file = self.buffer
        except ValueError:
            return  # detached: another's
        if file is not None:
            file.__exit__(Exception, None, None)


def mode_of(mode):
    """'r', 'w' or 'x', and whether bytes are meant; the modes are those of Python's own open()."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be str, not {type(mode).__name__}")
    kinds = [letter for letter in mode if letter in "rwxa"]
    if set(mode) - set("rwxabt+") or len(set(mode)) != len(mode) or len(kinds) != 1:
        raise ValueError(f"mode must be 'r', 'w' or 'x', with 'b' for bytes, not {mode!r}")
    if "b" in mode and "t" in mode:
        raise ValueError(f"a file has text or bytes, not both: {mode!r}")
    if "a" in mode or "+" in mode:
        raise io.UnsupportedOperation(
            f"objects are written whole, mode {mode!r} would change one: use 'w' or 'x'")
    return kinds[0], "b" in mode


def open(uri, mode="rb", buffering=-1, encoding=None, errors=None, newline=None, **options):
    """Open an object as a file: 'r' reads, 'w' writes, 'x' writes what must not exist yet; with 'b' bytes,
    else text.

    `encoding` (None: UTF-8), `errors` and `newline` are those of Python's own open(). A reader is buffered
    unless `buffering` is 0. The other options are those of open_reader and open_writer.
    """
    kind, is_binary = mode_of(mode)
    if isinstance(buffering, bool) or not isinstance(buffering, int):
        raise TypeError(f"buffering must be int, not {type(buffering).__name__}")
    text = {"encoding": encoding, "errors": errors, "newline": newline}
    if is_binary:
        for name, value in text.items():
            if value is not None:
                raise ValueError(f"{name} is for text, and mode {mode!r} for bytes")
    elif buffering == 0:
        raise ValueError("text cannot be unbuffered")
    else:
        text["encoding"] = "utf-8" if encoding is None else encoding
        io.TextIOWrapper(io.BytesIO(), **text)  # what is wrong is told before anything is opened
    if kind == "r":
        file = open_reader(uri, **options)
        if buffering != 0:
            file = io.BufferedReader(file, buffering if buffering > 1 else _BUFFER_BYTES)
    else:
        if kind == "x":
            options["create_only"] = True
        file = WriterFile(open_writer(uri, **options), kind + "b")
    if is_binary:
        return file
    wrap = io.TextIOWrapper if kind == "r" else TextWriter
    file = wrap(file, **text, line_buffering=buffering == 1)
    file.mode = mode
    return file

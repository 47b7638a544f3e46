"""asyncio: objects as streams, read and written by coroutines.

The calls are those of Reader and ObjectWriter, in the executor of the loop, where a token ends them: a
coroutine that is cancelled raises when its call has ended.
"""
import asyncio
import functools

from ._aio import _in_thread
from ._penstock import Error, ObjectWriter, open_reader, open_writer
from ._streams import Reader, mode_of

__all__ = ["AsyncReader", "AsyncWriter", "open_async"]

_CHUNK_BYTES = 1 << 20  # what `async for` gives at a time


class AsyncReader:
    """A Reader for coroutines; open_async makes one. `async for` gives chunks of up to 1 MiB."""

    def __init__(self, reader):
        if not isinstance(reader, Reader):
            raise TypeError(f"reader must be Reader, not {type(reader).__name__}")
        self._reader = reader
        self.name = reader.name
        self.mode = "rb"

    @property
    def closed(self):
        """Was it closed?"""
        return self._reader.closed

    async def read(self, size=-1, /):
        """Read `size` bytes, fewer only at the end; all of them for -1."""
        return await _in_thread(self._reader.read, size)

    async def readinto(self, buffer, /):
        """Fill the buffer and return how many bytes that took, fewer only at the end. Nothing writes there
        any more when this has ended, with an exception too."""
        return await _in_thread(self._reader.readinto, buffer)

    async def seek(self, offset, whence=0, /):
        """Go to another place; nothing is read. From the end asks for the size once."""
        return await _in_thread(self._reader.seek, offset, whence)

    def tell(self):
        """Tell where the next byte lies."""
        return self._reader.tell()

    async def size(self):
        """Tell the length of the object; None for what is decompressed on the way."""
        return await _in_thread(self._reader.size)

    async def close(self):
        """Let go of it; may be repeated."""
        await _to_the_end(self._reader.close)

    def __aiter__(self):
        return self

    async def __anext__(self):
        chunk = await self.read(_CHUNK_BYTES)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, trace):
        if kind is GeneratorExit:
            self._reader.close()  # nothing may be awaited
        else:
            await self.close()

    def __repr__(self):
        return f"<penstock.AsyncReader {self.name!r}>"


class AsyncWriter:
    """An ObjectWriter for coroutines; open_async makes one. close() publishes the object. It is dropped by an
    exception or a cancellation in the `async with` block, by a call that is cancelled, and when the last
    reference is gone."""

    def __init__(self, writer, mode="wb"):
        if not isinstance(writer, ObjectWriter):
            raise TypeError(f"writer must be ObjectWriter, not {type(writer).__name__}")
        self._writer = writer
        self._is_over = False  # as was asked for: what a cancellation dropped cannot be closed in peace
        self.name = writer.uri
        self.mode = mode

    @property
    def closed(self):
        """Was it published or dropped?"""
        return self._writer.closed

    @property
    def etag(self):
        """Of the published object, or None."""
        return self._writer.etag

    async def write(self, data, /):
        """Append bytes and return how many. They must not change until this has ended."""
        return await self._call(self._writer.write, data)

    def tell(self):
        """Tell how many bytes were given so far."""
        return self._writer.bytes_written()

    async def close(self):
        """Publish the object; may be repeated. One that cannot be published is dropped."""
        if self._is_over:
            return
        try:
            await self._call(self._writer.finalize)
        except Exception:
            await self._drop()
            raise
        self._is_over = True

    async def discard(self):
        """Drop the object and leave nothing behind; may be repeated."""
        self._is_over = True
        await self._drop()

    async def _call(self, function, *args):
        try:
            return await _in_thread(function, *args)
        except asyncio.CancelledError as cancelled:
            try:
                await self._drop()  # some of the data may be missing
            except Error as error:
                cancelled.add_note(str(error))  # whoever cancels waits for no other exception
            raise

    async def _drop(self):
        if not self._writer.closed:
            await _to_the_end(self._writer.cancel)

    async def __aenter__(self):
        self._writer.__enter__()
        return self

    async def __aexit__(self, kind, value, trace):
        if kind is None:
            await self.close()
        elif kind is GeneratorExit:
            self._writer.__exit__(kind, value, trace)  # nothing may be awaited
        else:
            await _to_the_end(functools.partial(self._writer.__exit__, kind, value, trace))

    def __repr__(self):
        return f"<penstock.AsyncWriter {self.name!r}>"


async def _to_the_end(function):
    """A function that takes a second at most, in the loop's executor. A cancellation waits for it."""
    future = asyncio.get_running_loop().run_in_executor(None, function)
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # seen; the cancellation comes first
        raise cancelled
    future.result()


def open_async(uri, mode="rb", **options):
    """Open an object for `async with`: 'rb' gives an AsyncReader, 'wb' an AsyncWriter, 'xb' one of what must
    not exist yet.

    Nothing is sent before the first call on it. The options are those of open_reader and open_writer.
    """
    kind, is_binary = mode_of(mode)
    if not is_binary:
        raise ValueError(f"coroutines read and write bytes: mode must be 'rb', 'wb' or 'xb', not {mode!r}")
    if kind == "r":
        return AsyncReader(open_reader(uri, **options))
    if kind == "x":
        options["create_only"] = True
    return AsyncWriter(open_writer(uri, **options), kind + "b")

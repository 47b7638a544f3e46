"""asyncio: the functions of the package, and the methods of Store, as coroutines.

Each event loop has a queue (queue.c) whose descriptor it watches. What coroutines ask for in one
turn of the loop is submitted together, and what has ended is taken together: one wake-up serves
many. An operation is what its coroutine awaits (await.c). Functions that the queue does not know
run in the loop's executor, where a token ends them.

A coroutine that is cancelled first ends what it started: when it raises, nothing reads or writes
the caller's buffers any more, and nothing more is sent. A store may still apply a write that had
reached it whole.
"""
import asyncio
import functools
import itertools
import operator
import os
import weakref
from collections.abc import Iterable

from . import _functions, _streams
from ._penstock import (COPY, DELETE, EXISTS, GET, GET_INTO, PUT, STAT, Cancel,
                        LengthMismatchError, Queue, UnsupportedOperationError)
from ._place import refusal, text_of

_PAGE = 1000


class _Link:
    """The queue of one event loop."""
    __slots__ = ("queue", "loop")

    def __init__(self, loop):
        key = id(loop)
        self.queue = Queue()
        self.loop = weakref.ref(loop, lambda _: _links.pop(key, None))
        loop.add_reader(self.queue.fileno(), self.queue.reap)


_links = {}  # by id() of their loops
os.register_at_fork(after_in_child=_links.clear)


def _queue_of(loop):
    link = _links.get(id(loop))
    if link is not None and link.loop() is loop:
        return link.queue
    for other in list(_links.values()):
        known = other.loop()
        if (known is not None and known.is_closed()
                and _links.pop(id(known), None) is other):  # else another thread's loop does it
            other.queue.close()
    link = _links[id(loop)] = _Link(loop)
    return link.queue


def _running_loop():
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("no event loop of asyncio is running: Penstock's coroutines need one, "
                           "asyncio's own or uvloop, below anyio too, but not trio, where a "
                           "thread can call the function that waits") from None


def _begin(kind, store, target, first=None, second=None, timeout=None):
    """Start one operation, to be awaited at once. None if the queue cannot carry it."""
    loop = _running_loop()
    return _queue_of(loop).one(loop, kind, store, target, first, second, timeout)


def _begin_many(kind, store, targets, data, max_in_flight, return_exceptions, timeout):
    """Start many operations of a kind. None if the queue cannot carry them."""
    loop = _running_loop()
    return _queue_of(loop).many(loop, kind, store, targets, data, max_in_flight,
                                return_exceptions, timeout)


async def _in_thread(function, *args, **keywords):
    """A blocking function, in the loop's executor."""
    cancel = Cancel()
    future = _running_loop().run_in_executor(
        None, functools.partial(cancel.run, function, *args, **keywords))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not cancel.fire():
            future.cancel()
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:
                pass
        if not future.cancelled():
            future.exception()  # seen; nobody else asks
        raise
    except GeneratorExit:
        cancel.fire()
        future.cancel()
        raise


def _blocking(store, name):
    """The call that waits: a method of the store, or the function."""
    if store is not None:
        return getattr(store, name)
    return getattr(_functions, name, None) or getattr(_streams, name)


def _copy_of(data):
    return memoryview(data).tobytes()


def _length_of(value, options):
    """expected_len, which is told where nothing else is asked for; None: any length will do."""
    if value is None:
        return None
    if not hasattr(value, "__index__"):
        raise TypeError(f"expected_len must be an int, not {type(value).__name__}")
    length = operator.index(value)
    if length < 0:
        raise ValueError("expected_len must not be negative")
    if options:
        raise ValueError(f"expected_len cannot be told with {', '.join(options)}")
    return length


async def _get_into(store, target, buffer, offset, expected_len, timeout, options):
    expected_len = _length_of(expected_len, options)
    if options:
        return await _in_thread(_blocking(store, "get_into"), target, buffer, offset,
                                timeout=timeout, **options)
    operation = _begin(GET_INTO, store, target, offset, buffer, timeout)
    n_read = await operation
    if expected_len is None:
        return n_read
    there = max(operation.object_size - operator.index(offset or 0), 0)
    if there != expected_len:
        uri = text_of(target) if store is None else store.uri + text_of(target)
        error = refusal(f"{uri}: {expected_len} bytes were expected, there are {there}", uri,
                        LengthMismatchError)
        error.expected, error.actual = expected_len, there
        raise error
    return n_read


async def _put(store, target, data, borrow, timeout, options):
    if not borrow:
        data = _copy_of(data)
    operation = None if options else _begin(PUT, store, target, data, None, timeout)
    if operation is not None:
        return await operation
    return await _in_thread(_blocking(store, "put_bytes"), target, data, timeout=timeout,
                            **options)


def _pair(store, item, borrow):
    """A name and data, as put_many() takes and refuses them."""
    wanted = f"each of the items must be a pair ({'key' if store is not None else 'uri'}, data), not "
    if isinstance(item, (str, bytes)) or not isinstance(item, Iterable):
        raise TypeError(f"{wanted}{type(item)!r}")
    pair = tuple(item)
    if len(pair) != 2:
        raise ValueError(f"{wanted}{len(pair)} values")
    return pair if borrow else (pair[0], _copy_of(pair[1]))


async def _put_many(store, items, max_in_flight, borrow, return_exceptions, timeout):
    if isinstance(items, (str, bytes)):
        raise TypeError(f"items must be a list, not {type(items)!r}")
    items = [_pair(store, item, borrow) for item in items]
    operation = _begin_many(PUT, store, [target for target, _ in items],
                            [data for _, data in items], max_in_flight, return_exceptions, timeout)
    if operation is None:
        return await _in_thread(_blocking(store, "put_many"), items, max_in_flight,
                                return_exceptions=return_exceptions, timeout=timeout)
    done = await operation
    return done if return_exceptions else None


async def _copy(store, source, destination, timeout, options):
    if not options:
        try:
            return await _begin(COPY, store, source, destination, None, timeout)
        except UnsupportedOperationError:
            pass  # the store has no means of its own
    return await _in_thread(_blocking(store, "copy"), source, destination, timeout=timeout,
                            **options)


# ---- functions ----------------------------------------------------------------------------------


async def get_async(uri, *, timeout=None, **options):
    """Read a whole object: get()."""
    if options:
        return await _in_thread(_functions.get, uri, timeout=timeout, **options)
    return await _begin(GET, None, uri, 0, None, timeout)


async def get_range_async(uri, offset, length=None, *, timeout=None, **options):
    """Read a range: get_range()."""
    if options:
        return await _in_thread(_functions.get_range, uri, offset, length, timeout=timeout,
                                **options)
    return await _begin(GET, None, uri, offset, length, timeout)


async def get_into_async(uri, buffer, offset=0, *, expected_len=None, timeout=None, **options):
    """Read into a writable buffer: get_into(). After a failure or a cancellation, too, nothing
    writes to it any more. `expected_len`: LengthMismatchError for any other number of bytes."""
    return await _get_into(None, uri, buffer, offset, expected_len, timeout, options)


async def get_many_async(uris, max_in_flight=64, *, return_exceptions=False, timeout=None):
    """Read many objects: get_many()."""
    return await _begin_many(GET, None, uris, None, max_in_flight, return_exceptions, timeout)


async def put_bytes_async(uri, data, *, borrow=True, timeout=None, **options):
    """Write a whole object: put_bytes(). The data is read in place; borrow=False copies it."""
    return await _put(None, uri, data, borrow, timeout, options)


async def put_async(uri, data, *args, timeout=None, **options):
    """Write a whole object: put()."""
    if args or isinstance(data, int):
        return _functions.put(uri, data, *args, **options)  # says what is wrong
    return await put_bytes_async(uri, data, timeout=timeout, **options)


async def put_many_async(items, max_in_flight=64, *, borrow=True, return_exceptions=False,
                         timeout=None):
    """Write many objects: put_many()."""
    return await _put_many(None, items, max_in_flight, borrow, return_exceptions, timeout)


async def stat_async(uri, *, timeout=None, **options):
    """The attributes of an object: stat()."""
    if options:
        return await _in_thread(_functions.stat, uri, timeout=timeout, **options)
    return await _begin(STAT, None, uri, timeout=timeout)


async def stat_many_async(uris, max_in_flight=64, *, return_exceptions=False, timeout=None):
    """The attributes of many objects, in the order of the URIs."""
    return await _begin_many(STAT, None, uris, None, max_in_flight, return_exceptions, timeout)


async def exists_async(uri, *, timeout=None):
    """Is there an object? exists()."""
    return await _begin(EXISTS, None, uri, timeout=timeout)


async def delete_async(uri, recursive=False, *, timeout=None, **options):
    """Delete an object: delete()."""
    if recursive or options:
        return await _in_thread(_functions.delete, uri, recursive, timeout=timeout, **options)
    return await _begin(DELETE, None, uri, timeout=timeout)


async def copy_async(src, dst, *, timeout=None, **options):
    """Copy an object: copy()."""
    return await _copy(None, src, dst, timeout, options)


async def iterate_async(uri, **options):
    """The entries of iterate(), for `async for`; pages are read as they are needed."""
    async for entry in _walk(_functions.iterate(uri, **options)):
        yield entry


async def _walk(listing):
    while page := await _in_thread(_take_page, listing):
        for entry in page:
            yield entry


def _take_page(listing):
    return list(itertools.islice(listing, _PAGE))


def _threaded(function, qualified):
    """The coroutine for a function or method that the queue does not know."""

    @functools.wraps(function)
    async def call(*args, **keywords):
        progress = keywords.get("progress")
        if callable(progress):  # called where the coroutine runs, not in the thread
            loop = _running_loop()
            keywords["progress"] = functools.partial(loop.call_soon_threadsafe, progress)
        return await _in_thread(function, *args, **keywords)

    call.__name__ = function.__name__ + "_async"
    call.__qualname__ = qualified + call.__name__
    call.__module__ = "penstock"
    return call


_THREADED = ("create_bucket", "create_container", "delete_bucket", "delete_container",
             "delete_prefix", "download", "get_bytes", "get_object", "get_ranges", "get_suffix",
             "list", "list_containers", "mkdir", "presign", "rename", "upload")
for _name in _THREADED:
    globals()[_name + "_async"] = _threaded(_blocking(None, _name), "")

__all__ = ["get_async", "get_range_async", "get_into_async", "get_many_async", "put_bytes_async",
           "put_async", "put_many_async", "stat_async", "stat_many_async", "exists_async",
           "delete_async", "copy_async", "iterate_async", *(name + "_async" for name in _THREADED)]


# ---- methods of Store ---------------------------------------------------------------------------


class _Methods:
    """What Store has by key, as coroutines."""

    async def get_async(self, key, *, timeout=None, **options):
        """Read a whole object: get()."""
        if options:
            return await _in_thread(self.get, key, timeout=timeout, **options)
        return await _begin(GET, self, key, 0, None, timeout)

    async def get_range_async(self, key, offset, length=None, *, timeout=None, **options):
        """Read a range: get_range()."""
        if options:
            return await _in_thread(self.get_range, key, offset, length, timeout=timeout,
                                    **options)
        return await _begin(GET, self, key, offset, length, timeout)

    async def get_into_async(self, key, buffer, offset=0, *, expected_len=None, timeout=None,
                             **options):
        """Read into a writable buffer: get_into()."""
        return await _get_into(self, key, buffer, offset, expected_len, timeout, options)

    async def get_many_async(self, keys, max_in_flight=64, *, return_exceptions=False,
                             timeout=None):
        """Read many objects: get_many()."""
        return await _begin_many(GET, self, keys, None, max_in_flight, return_exceptions, timeout)

    async def put_bytes_async(self, key, data, *, borrow=True, timeout=None, **options):
        """Write a whole object: put_bytes()."""
        return await _put(self, key, data, borrow, timeout, options)

    async def put_many_async(self, items, max_in_flight=64, *, borrow=True,
                             return_exceptions=False, timeout=None):
        """Write many objects: put_many()."""
        return await _put_many(self, items, max_in_flight, borrow, return_exceptions, timeout)

    async def stat_async(self, key, *, timeout=None, **options):
        """The attributes of an object: stat()."""
        if options:
            return await _in_thread(self.stat, key, timeout=timeout, **options)
        return await _begin(STAT, self, key, timeout=timeout)

    async def stat_many_async(self, keys, max_in_flight=64, *, return_exceptions=False,
                              timeout=None):
        """The attributes of many objects, in the order of the keys."""
        return await _begin_many(STAT, self, keys, None, max_in_flight, return_exceptions, timeout)

    async def exists_async(self, key, *, timeout=None):
        """Is there an object? exists()."""
        return await _begin(EXISTS, self, key, timeout=timeout)

    async def delete_async(self, key, recursive=False, *, timeout=None, **options):
        """Delete an object: delete()."""
        if recursive or options:
            return await _in_thread(self.delete, key, recursive, timeout=timeout, **options)
        return await _begin(DELETE, self, key, timeout=timeout)

    async def copy_async(self, src, dst, *, timeout=None, **options):
        """Copy within the store: copy()."""
        return await _copy(self, src, dst, timeout, options)

    async def put_async(self, key, data, *, timeout=None, **options):
        """Write a whole object: put()."""
        return await self.put_bytes_async(key, data, timeout=timeout, **options)

    async def list_async(self, prefix="", **options):
        """The entries of list(), for `async for`; pages are read as they are needed."""
        async for entry in _walk(self.list(prefix, **options)):
            yield entry

    async def list_containers_async(self, prefix="", **options):
        """The entries of list_containers(), for `async for`."""
        async for entry in _walk(self.list_containers(prefix, **options)):
            yield entry


for _name in ("create_container", "delete_container", "delete_many", "delete_prefix", "download",
              "get_bytes", "get_ranges", "get_suffix", "mkdir", "presign", "rename", "upload"):
    setattr(_functions.Store, _name + "_async",
            _threaded(getattr(_functions.Store, _name), "Store."))
for _name, _function in vars(_Methods).items():
    if _name.endswith("_async"):
        _function.__qualname__ = "Store." + _name
        _function.__module__ = "penstock"
        setattr(_functions.Store, _name, _function)

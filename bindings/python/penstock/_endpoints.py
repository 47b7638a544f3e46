"""Several endpoints that hold the same objects, as one store.

An endpoint is a bucket, at a server of its own perhaps, or a directory. All are taken to be replicas:
whichever is asked, the answer is the same. A request goes to one of them, chosen by the strategy. Where
that one cannot take it the next is asked, but never after a write of which nobody knows whether it
happened: a write is in one endpoint, or in none.

An endpoint that is unavailable is left out for a second, then, after one request has tried it in vain,
for 2, 4, ... 30 s. When all are left out all are asked.
"""
import asyncio
import itertools
import logging
import math
import operator
import os
import re
import threading
import time
import weakref

from ._aio import _copy_of, _in_thread
from ._penstock import (BytesView, DataLossError, Error, InvalidArgumentError, Store, StoreIOError,
                        TimeoutError, UnavailableError)
from ._place import as_directory, find, refusal, split, text_of

__all__ = ["MultiEndpointStore", "create_multi_endpoint_store",
           "create_multi_endpoint_store_from_env", "create_multi_endpoint_store_from_file",
           "create_multi_endpoint_store_from_template"]

_MAX_ENDPOINTS = 32
_MAX_REST_S = 30.0
_STRATEGIES = ("round_robin", "least_connections")
_FIGURES = ("total_requests", "bytes_read", "bytes_written", "error_count", "active_requests")
_ELSEWHERE = (UnavailableError, StoreIOError, DataLossError)  # another endpoint may do better

_log = logging.getLogger("penstock")
_stores = weakref.WeakSet()
_lock = threading.Lock()  # of all figures, held for as long as it takes to count


def _count(figures, **more):
    with _lock:
        for name, n in more.items():
            figures[name] += n


def _after_fork():
    """A child counts what it does itself; what its parent waits for is nothing to it."""
    global _lock
    _lock = threading.Lock()
    for store in _stores:
        for endpoint in store._endpoints:
            endpoint.figures = dict.fromkeys(_FIGURES, 0)


os.register_at_fork(after_in_child=_after_fork)


# ---- what endpoints are named by ----------------------------------------------------------------

_RANGE = re.compile(r"\{(\d{1,9})\.\.\.(\d{1,9})\}", re.ASCII)
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)


def _expand(template):
    """All URIs that a template stands for: "{1...8}" is each number from 1 to 8, "{01...16}" with
    two digits each, and several ranges are all their combinations."""
    pieces = _RANGE.split(template)
    texts, firsts, lasts = pieces[::3], pieces[1::3], pieces[2::3]
    sizes = [int(last) - int(first) + 1 for first, last in zip(firsts, lasts)]
    if any("{" in text or "}" in text for text in texts) or min(sizes, default=1) < 1:
        raise refusal(f"template {template!r} has braces that are not of the form {{1...8}}",
                      template)
    if math.prod(sizes) > _MAX_ENDPOINTS:
        raise refusal(f"template {template!r} stands for {math.prod(sizes)} endpoints, more than "
                      f"{_MAX_ENDPOINTS}", template)
    columns = [[text] for text in texts[:1]]
    for first, n, text in zip(firsts, sizes, texts[1:]):
        width = len(first) if first[0] == "0" else 0
        columns.append([str(int(first) + i).zfill(width) + text for i in range(n)])
    return ["".join(row) for row in itertools.product(*columns)]


def _check(uris):
    """The URIs of a list as str, each with a slash at its end."""
    if isinstance(uris, (str, bytes, os.PathLike)):
        raise TypeError(f"uris must be several URIs, not one {type(uris).__name__}")
    texts = [as_directory(text_of(uri)) for uri in itertools.islice(uris, _MAX_ENDPOINTS + 1)]
    if not texts:
        raise InvalidArgumentError("a MultiEndpointStore needs an endpoint at least")
    if len(texts) > _MAX_ENDPOINTS:
        raise InvalidArgumentError(f"a MultiEndpointStore has {_MAX_ENDPOINTS} endpoints at most")
    schemes = {split(text)[0].partition("://")[0] for text in texts}
    if len(schemes) > 1:
        raise InvalidArgumentError(f"endpoints of several schemes: {', '.join(sorted(schemes))}")
    for text in texts:
        if texts.count(text) > 1:
            raise refusal(f"endpoint {text!r} is named twice", text)
    return texts


def _open(uri, options, credentials, tls):
    """The endpoint of a URI. "s3://host:9000/bucket/" names a server: it has a port, which no
    bucket has, or is an address, which no bucket may be."""
    base, prefix = split(uri)
    scheme, _, server = base[:-1].partition("://")
    if scheme == "s3" and (":" in server or _ADDRESS.fullmatch(server)):
        bucket, _, prefix = prefix.partition("/")
        if not bucket:
            raise refusal(f"endpoint {uri!r} names a server, but no bucket", uri)
        if options and "endpoint" in options:
            raise refusal(f"endpoint {uri!r} names a server, and so do the options", uri)
        base = f"s3://{bucket}/"
        options = {**(options or {}), "endpoint": f"http{'s' if tls else ''}://{server}"}
    elif tls:
        raise refusal(f"endpoint {uri!r} names no server to ask by https", uri)
    return _Endpoint(uri, Store(base, options, credentials=credentials), prefix)


class _Endpoint:
    """A replica: a store, what its keys begin with, and how it fares."""

    def __init__(self, uri, store, prefix):
        self.uri, self.store, self.prefix = uri, store, prefix
        self.figures = dict.fromkeys(_FIGURES, 0)
        self.rest_s = 0.0    # it is left out for so long; 0: it is not
        self.ready_at = 0.0  # until then

    async def ask(self, call, timeout, n_written=0):
        """Await call(endpoint, timeout), one request, and count it."""
        figures, rest_s = self.figures, self.rest_s
        _count(figures, total_requests=1, active_requests=1)
        try:
            result = await call(self, timeout)
        except Error as error:
            _count(figures, error_count=1)
            if isinstance(error, UnavailableError):
                self._leave_out(rest_s, error)
            elif not isinstance(error, TimeoutError):
                self.rest_s = self.ready_at = 0.0  # it answered
            raise
        except Exception:
            _count(figures, total_requests=-1)  # a wrong argument: nothing was sent
            raise
        finally:
            _count(figures, active_requests=-1)
        self.rest_s = self.ready_at = 0.0
        n_read = result.nbytes if isinstance(result, BytesView) else 0
        _count(figures, bytes_read=n_read, bytes_written=n_written)
        return result

    def _leave_out(self, seen_s, error):
        """After a failure. `seen_s`: rest_s when the request began. Of many that fail together only
        the first counts."""
        if seen_s != self.rest_s:
            return
        self.rest_s = min(max(1.0, 2 * seen_s), _MAX_REST_S)
        self.ready_at = time.monotonic() + self.rest_s
        _log.warning("endpoint %s is left out for %g s: %s", self.uri, self.rest_s, error)


# ---- the store ----------------------------------------------------------------------------------


def _call(function, key, *arguments, **options):
    """A request for a key that any endpoint can be asked: a coroutine method of Store, waiting for
    its endpoint and its timeout."""
    return lambda endpoint, timeout: function(endpoint.store, endpoint.prefix + key, *arguments,
                                              timeout=timeout, **options)


def _listing(key, recursive):
    """The same for a listing, of what comes after the endpoint."""
    async def call(endpoint, timeout):
        _, entries = await _in_thread(find, endpoint.store, "", endpoint.prefix + key, recursive,
                                      timeout)
        if entries is None:
            return [key]
        return [entry.key[len(endpoint.prefix):] for entry in entries]

    return call


def _size_of(data):
    with memoryview(data) as view:
        return view.nbytes


async def _outcome(request):
    try:
        return await request
    except Exception as error:
        return error


def _restore(kind, endpoints, strategy):
    store = kind.__new__(kind)
    store._begin([_Endpoint(*endpoint) for endpoint in endpoints], strategy)
    return store


class MultiEndpointStore:
    """Several endpoints that hold the same objects, as one store; at most 32, all of one scheme.

    A URI below any of them, or a key, which is what comes after an endpoint, names an object of all.
    A request goes to ONE endpoint, chosen by the strategy, writes and deletes too. If it cannot take
    the request (UnavailableError, ThrottledError, StoreIOError, DataLossError) the next one is
    asked, unless a write may have been applied. Where all fail the last one's error is raised, with
    a note for each of the others."""

    def __init__(self, uris, strategy=None, *, options=None, credentials=None, tls=False):
        """`uris`: "s3://host:9000/bucket/prefix/", "s3://bucket/", "file:///mnt1/" ... `strategy`:
        "round_robin" (None) or "least_connections". `options`, `credentials`: of each Store. `tls`:
        servers that the URIs name are asked by https."""
        uris = _check(uris)
        if strategy is None:
            strategy = "round_robin"
        if strategy not in _STRATEGIES:
            raise InvalidArgumentError(
                f"strategy {strategy!r} is neither 'round_robin' nor 'least_connections'")
        self._begin([_open(uri, options, credentials, tls) for uri in uris], strategy)

    def _begin(self, endpoints, strategy):
        self._endpoints = endpoints
        self._strategy = strategy
        self._turns = itertools.count()
        self._bases = sorted((endpoint.uri for endpoint in endpoints), key=len, reverse=True)
        _stores.add(self)

    def __reduce__(self):
        return _restore, (type(self), [(e.uri, e.store, e.prefix) for e in self._endpoints],
                          self._strategy)

    def __repr__(self):
        return f"MultiEndpointStore({[e.uri for e in self._endpoints]!r}, {self._strategy!r})"

    # ---- which endpoint --------------------------------------------------------------------------

    def _locate(self, uri):
        """The endpoint that a URI is written with, the first for a key, and the key."""
        text = text_of(uri)
        if "://" not in text:
            return self._endpoints[0].uri, text
        for base in self._bases:
            if text.startswith(base):
                return base, text[len(base):]
            if text + "/" == base:
                return base, ""
        raise refusal(
            f"{text!r} lies below no endpoint: {', '.join(e.uri for e in self._endpoints)}", text)

    def _at(self, index):
        index = operator.index(index)
        if not 0 <= index < len(self._endpoints):
            raise InvalidArgumentError(
                f"there is no endpoint {index}: they are 0 to {len(self._endpoints) - 1}")
        return self._endpoints[index]

    def _in_order(self):
        """The endpoints in the order in which a request is to ask them."""
        now = time.monotonic()
        ready = [endpoint for endpoint in self._endpoints if endpoint.ready_at <= now]
        left_out = [endpoint for endpoint in self._endpoints if endpoint.ready_at > now]
        if not ready:
            ready, left_out = left_out, []
        turn = next(self._turns) % len(ready)
        order = ready[turn:] + ready[:turn]
        if self._strategy == "least_connections":
            order.sort(key=lambda endpoint: endpoint.figures["active_requests"])
        if order[0].rest_s:
            order[0].ready_at = now + order[0].rest_s  # this request tries it, no other
        return order + left_out

    async def _ask(self, call, timeout, n_written=0):
        """One endpoint after the other, until one takes the request."""
        order, left_s, notes = self._in_order(), timeout, []
        began = time.monotonic()
        for endpoint in order:
            try:
                return await endpoint.ask(call, left_s, n_written)
            except _ELSEWHERE as error:
                if timeout is not None:
                    left_s = began + timeout - time.monotonic()
                is_late = timeout is not None and left_s <= 0
                if endpoint is order[-1] or error.maybe_applied or is_late:
                    for note in notes:
                        error.add_note(note)
                    raise
                if not isinstance(error, UnavailableError):  # those are told when it is left out
                    _log.warning("endpoint %s failed, asking another: %s", endpoint.uri, error)
                notes.append(f"before it endpoint {endpoint.uri}: {error}")

    async def _ask_all(self, call, timeout, n_written=0):
        """All endpoints, side by side: what each one returned or raised. A wrong argument raises."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(endpoint.ask(call, timeout, n_written)))
                     for endpoint in self._endpoints]
        outcomes = [task.result() for task in tasks]
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, Error):
                raise outcome
        return outcomes

    def _raise_first(self, outcomes):
        """Raise the first of the errors that endpoints gave, with notes that tell of all."""
        failed = [(endpoint.uri, error) for endpoint, error in zip(self._endpoints, outcomes)
                  if isinstance(error, Error)]
        if not failed:
            return
        first = failed[0][1]
        first.add_note(f"{len(failed)} of {len(outcomes)} endpoints failed:")
        for uri, error in failed:
            first.add_note(f"endpoint {uri}: {error}")
        raise first

    # ---- one endpoint, and others after it -------------------------------------------------------

    async def get(self, uri, *, timeout=None, **options):
        """Read a whole object, from any endpoint: get_async()."""
        key = self._locate(uri)[1]
        return await self._ask(_call(Store.get_async, key, **options), timeout)

    async def get_range(self, uri, offset, length=None, *, timeout=None, **options):
        """Read a range, from any endpoint: get_range_async()."""
        key = self._locate(uri)[1]
        return await self._ask(_call(Store.get_range_async, key, offset, length, **options),
                               timeout)

    async def put(self, uri, data, *, borrow=True, timeout=None, **options):
        """Write a whole object to ONE endpoint: put_bytes_async(). put_all_endpoints() writes to
        all."""
        key, size = self._locate(uri)[1], _size_of(data)
        if not borrow:
            data = _copy_of(data)
        return await self._ask(_call(Store.put_bytes_async, key, data, **options), timeout, size)

    async def list(self, prefix="", recursive=False, *, timeout=None):
        """List full URIs, as one endpoint has them: list().

        They are written with the endpoint that `prefix` is written with, whichever is asked, the
        first for a key. `timeout`: seconds for each page."""
        base, key = self._locate(prefix)
        names = await self._ask(_listing(key, recursive), timeout)
        return [base + name for name in names]

    async def delete(self, uri, *, timeout=None, **options):
        """Delete an object from ONE endpoint: delete_async(). delete_all_endpoints() deletes it
        from all."""
        key = self._locate(uri)[1]
        await self._ask(_call(Store.delete_async, key, **options), timeout)

    # ---- this endpoint, and no other -------------------------------------------------------------

    async def get_from_endpoint(self, index, path, *, timeout=None, **options):
        """Read a whole object from the endpoint of this index, and from no other."""
        endpoint, key = self._at(index), self._locate(path)[1]
        return await endpoint.ask(_call(Store.get_async, key, **options), timeout)

    async def put_to_endpoint(self, index, path, data, *, borrow=True, timeout=None, **options):
        """Write a whole object to the endpoint of this index, and to no other."""
        endpoint, key, size = self._at(index), self._locate(path)[1], _size_of(data)
        call = _call(Store.put_bytes_async, key, data, borrow=borrow, **options)
        return await endpoint.ask(call, timeout, size)

    async def delete_from_endpoint(self, index, path, *, timeout=None, **options):
        """Delete an object from the endpoint of this index, and from no other."""
        endpoint, key = self._at(index), self._locate(path)[1]
        await endpoint.ask(_call(Store.delete_async, key, **options), timeout)

    # ---- all endpoints ---------------------------------------------------------------------------

    async def put_all_endpoints(self, path, data, *, borrow=True, return_exceptions=False,
                                timeout=None, **options):
        """Write a whole object to every endpoint, side by side. All are tried; if any fails the
        first error is raised, with a note for each. With return_exceptions=True: a list with an
        error or None for each endpoint."""
        key, size = self._locate(path)[1], _size_of(data)
        if not borrow:
            data = _copy_of(data)
        call = _call(Store.put_bytes_async, key, data, **options)
        return self._errors_of(await self._ask_all(call, timeout, size), return_exceptions)

    async def delete_all_endpoints(self, path, *, return_exceptions=False, timeout=None):
        """Delete an object from every endpoint; failures are told as by put_all_endpoints()."""
        call = _call(Store.delete_async, self._locate(path)[1])
        return self._errors_of(await self._ask_all(call, timeout), return_exceptions)

    def _errors_of(self, outcomes, return_exceptions):
        if return_exceptions:
            return [outcome if isinstance(outcome, Error) else None for outcome in outcomes]
        self._raise_first(outcomes)
        return None

    async def list_all_endpoints(self, prefix="", recursive=False, *, timeout=None):
        """List what any of the endpoints has, each URI once; all must answer. The URIs are those of
        list()."""
        base, key = self._locate(prefix)
        outcomes = await self._ask_all(_listing(key, recursive), timeout)
        self._raise_first(outcomes)
        names = set(itertools.chain.from_iterable(outcomes))
        return [base + name for name in
                sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))]

    # ---- what there is, and what it did ----------------------------------------------------------

    def endpoint_count(self):
        """How many endpoints there are."""
        return len(self._endpoints)

    def strategy(self):
        """"round_robin" or "least_connections"."""
        return self._strategy

    def get_endpoint_stats(self):
        """What each endpoint was asked for in this process: dicts with uri, total_requests (each
        endpoint tried is one), bytes_read, bytes_written, error_count, active_requests."""
        with _lock:
            return [{"uri": endpoint.uri, **endpoint.figures} for endpoint in self._endpoints]

    def get_total_stats(self):
        """The sums of get_endpoint_stats()."""
        each = self.get_endpoint_stats()
        return {name: sum(figures[name] for figures in each) for name in _FIGURES}


# ---- as s3dlio makes them ------------------------------------------------------------------------


def create_multi_endpoint_store(uris, strategy=None, *, options=None, credentials=None, tls=False):
    """Make a MultiEndpointStore of these endpoints."""
    return MultiEndpointStore(uris, strategy, options=options, credentials=credentials, tls=tls)


def create_multi_endpoint_store_from_template(uri_template, strategy=None, *, options=None,
                                              credentials=None, tls=False):
    """Make a MultiEndpointStore of all that "s3://10.0.0.{1...8}:9000/bucket/" stands for."""
    return MultiEndpointStore(_expand(text_of(uri_template)), strategy, options=options,
                              credentials=credentials, tls=tls)


def create_multi_endpoint_store_from_file(file_path, strategy=None, *, options=None,
                                          credentials=None, tls=False):
    """Make a MultiEndpointStore of the URIs in a local file: one a line, `#` begins a comment."""
    with open(file_path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    uris = [line for line in lines if line and not line.startswith("#")]
    return MultiEndpointStore(uris, strategy, options=options, credentials=credentials, tls=tls)


def create_multi_endpoint_store_from_env(strategy=None, *, options=None, credentials=None,
                                         tls=False):
    """Make a MultiEndpointStore of the URIs in S3_ENDPOINT_URIS, a list with commas."""
    uris = [uri.strip() for uri in os.environ.get("S3_ENDPOINT_URIS", "").split(",")]
    uris = [uri for uri in uris if uri]
    if not uris:
        raise InvalidArgumentError("S3_ENDPOINT_URIS names no endpoint")
    return MultiEndpointStore(uris, strategy, options=options, credentials=credentials, tls=tls)

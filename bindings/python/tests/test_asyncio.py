"""asyncio: coroutines, batched over one descriptor, and nothing is left after a cancel."""
import asyncio
import contextlib
import contextvars
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import weakref
from unittest import mock

import penstock
from penstock import _aio

ROOT = os.environ.get("PST_TEST_SOURCE") or os.path.join(os.path.dirname(__file__), "../../..")
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
from faults import FaultServer  # noqa: E402

OPTIONS = {"region": "us-east-1", "access_key_id": "KITACCESSKEY",
           "secret_access_key": "kit-secret-access-key"}
SOON_S = 3.0  # a second, on a machine that has much else to do
NEVER_MS = 20000


def n_descriptors():
    return len(os.listdir("/proc/self/fd"))


def runners():
    """What runs a coroutine function: uvloop and anyio too, where they are installed."""
    found = {"asyncio": lambda function: asyncio.run(function())}
    with contextlib.suppress(ImportError):
        import uvloop

        def run(function):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(function())

        found["uvloop"] = run
    with contextlib.suppress(ImportError):
        import anyio
        found["anyio"] = anyio.run
    return found


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def uri(self, name):
        return f"file://{self.directory}/{name}"

    def write(self, name, data):
        with open(os.path.join(self.directory, name), "wb") as f:
            f.write(data)
        return self.uri(name)

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as f:
            return f.read()


class Functions(Case, unittest.IsolatedAsyncioTestCase):
    async def test_objects_are_written_and_read(self):
        etag = await penstock.put_bytes_async(self.uri("a"), b"hello")
        self.assertEqual(etag, penstock.stat(self.uri("a"))["etag"])
        view = await penstock.get_async(self.uri("a"))
        self.assertIsInstance(view, penstock.BytesView)
        self.assertEqual(bytes(view), b"hello")
        self.assertEqual(await penstock.get_bytes_async(self.uri("a")), b"hello")
        self.assertEqual([bytes(v) for v in await penstock.get_ranges_async(
            self.uri("a"), [(3, 2), (0, 1)])], [b"lo", b"h"])
        self.assertEqual(self.read("a"), b"hello")

    async def test_empty_objects(self):
        await penstock.put_bytes_async(self.uri("a"), b"")
        self.assertEqual(bytes(await penstock.get_async(self.uri("a"))), b"")
        self.assertEqual(await penstock.get_into_async(self.uri("a"), bytearray(4)), 0)

    async def test_ranges_are_those_of_pread(self):
        uri = self.write("a", b"0123456789")
        for offset, length, wanted in ((2, 3, b"234"), (7, None, b"789"), (8, 9, b"89"),
                                       (10, 1, b""), (99, None, b""), (3, 0, b"")):
            with self.subTest(offset=offset, length=length):
                view = await penstock.get_range_async(uri, offset, length)
                self.assertEqual(bytes(view), wanted)

    async def test_reads_into_memory_of_the_caller(self):
        uri = self.write("a", b"0123456789")
        buffer = bytearray(b"." * 8)
        self.assertEqual(await penstock.get_into_async(uri, memoryview(buffer)[2:6], 3), 4)
        self.assertEqual(buffer, b"..3456..")
        self.assertEqual(await penstock.get_into_async(uri, buffer, 7), 3)
        buffer.append(0)  # nobody holds it any more

    async def test_length_that_was_expected(self):
        uri = self.write("a", b"0123456789")
        buffer = bytearray(10)
        self.assertEqual(await penstock.get_into_async(uri, buffer, expected_len=10), 10)
        with self.assertRaises(penstock.LengthMismatchError) as caught:
            await penstock.get_into_async(uri, bytearray(4), expected_len=4)
        self.assertEqual((caught.exception.expected, caught.exception.actual), (4, 10))
        self.assertEqual(caught.exception.uri, uri)
        self.assertEqual(await penstock.get_into_async(uri, buffer, None, expected_len=10), 10)
        with self.assertRaises(penstock.LengthMismatchError) as caught:
            store = penstock.Store("file:///", {"root": self.directory})
            await store.get_into_async(b"a", buffer, 3, expected_len=4)
        self.assertEqual((caught.exception.actual, caught.exception.uri), (7, "file:///a"))

    async def test_any_contiguous_buffer_is_put(self):
        for data in (bytearray(b"abc"), memoryview(b"abc"), await self.some_view(b"abc")):
            await penstock.put_bytes_async(self.uri("a"), data)
            self.assertEqual(self.read("a"), b"abc")
        await penstock.put_bytes_async(self.uri("a"), bytearray(b"xyz"), borrow=False)
        await penstock.put_async(self.uri("b"), b"xyz")
        self.assertEqual(self.read("a") + self.read("b"), b"xyzxyz")

    async def some_view(self, data):
        return await penstock.get_async(self.write("view", data))

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 60

    async def test_attributes_existence_copies_and_deletion(self):
        uri = self.write("a", b"0123456789")
        self.assertEqual(await penstock.stat_async(uri), penstock.stat(uri))
        self.assertTrue(await penstock.exists_async(uri))
        self.assertFalse(await penstock.exists_async(self.uri("nothing")))
        self.assertFalse(await penstock.exists_async(f"file://{self.directory}"))
        await penstock.copy_async(uri, self.uri("b"))
        self.assertEqual(self.read("b"), b"0123456789")
        await penstock.delete_async(uri)
        await penstock.delete_async(uri)
        self.assertEqual(os.listdir(self.directory), ["b"])

    async def test_what_the_queue_does_not_know_runs_in_threads(self):
        await penstock.mkdir_async(self.uri("d"))
        await penstock.put_bytes_async(self.uri("d/x"), b"1")
        await penstock.put_bytes_async(self.uri("d/y"), b"2")
        self.assertEqual(sorted(await penstock.list_async(self.uri("d/"))),
                         [self.uri("d/x"), self.uri("d/y")])
        await penstock.delete_async(self.uri("d/"), recursive=True)
        self.assertFalse(await penstock.exists_async(self.uri("d/x")))

    async def test_progress_is_told_to_the_loop(self):
        threads, numbers = set(), []

        def progress(n_objects, n_bytes):
            threads.add(threading.get_ident())
            numbers.append((n_objects, n_bytes))

        self.write("a", b"a")
        self.write("b", b"bb")
        paths = [os.path.join(self.directory, name) for name in "ab"]
        self.assertEqual(await penstock.upload_async(paths, self.uri("up"), progress=progress), 2)
        await asyncio.sleep(0)
        self.assertEqual(threads, {threading.get_ident()})
        self.assertEqual(numbers[-1], (2, 3))

    async def test_every_function_is_there_to_be_awaited(self):
        for name in ("get", "get_range", "get_into", "get_ranges", "get_many", "put_bytes", "put",
                     "put_many", "list", "stat", "stat_many", "exists", "delete", "copy", "upload",
                     "download", "mkdir", "create_bucket", "delete_bucket", "list_containers",
                     "get_object", "get_bytes", "presign"):
            with self.subTest(name=name):
                self.assertTrue(asyncio.iscoroutinefunction(getattr(penstock, name + "_async")))

    async def test_errors_are_those_of_the_blocking_calls(self):
        uri = self.uri("nothing")
        for call, other in ((penstock.get_async(uri), penstock.get),
                            (penstock.stat_async(uri), penstock.stat)):
            with self.assertRaises(penstock.NotFoundError) as caught:
                await call
            with self.assertRaises(penstock.NotFoundError) as blocking:
                other(uri)
            self.assertEqual(str(caught.exception), str(blocking.exception))
            self.assertEqual((caught.exception.code, caught.exception.uri), ("NOT_FOUND", uri))

    async def test_arguments_are_checked_first(self):
        uri = self.uri("a")
        for error, call in (
                (TypeError, penstock.get_async(7)),
                (TypeError, penstock.put_bytes_async(uri, 7)),
                (TypeError, penstock.put_bytes_async(uri, "text")),
                (TypeError, penstock.put_bytes_async(uri, 7, borrow=False)),
                (TypeError, penstock.get_into_async(uri, b"read-only")),
                (TypeError, penstock.get_many_async(uri)),
                (TypeError, penstock.get_async(uri, no_such_option=1)),
                (TypeError, penstock.put_many_async([uri])),
                (TypeError, penstock.get_into_async(uri, bytearray(9), expected_len="9")),
                (TypeError, penstock.get_into_async(uri, bytearray(9), expected_len=9.0)),
                (TypeError, penstock.get_into_async(uri, bytearray(9), "0", expected_len=9)),
                (ValueError, penstock.get_into_async(uri, bytearray(9), expected_len=-1)),
                (ValueError, penstock.get_into_async(uri, bytearray(9), expected_len=9,
                                                     if_match="x")),
                (ValueError, penstock.get_range_async(uri, -1)),
                (ValueError, penstock.get_async("no scheme")),
                (ValueError, penstock.get_async("nosuch://x/y")),
                (ValueError, penstock.get_async(uri, timeout=0)),
                (ValueError, penstock.get_many_async([uri], 0)),
                (ValueError, penstock.get_many_async([uri, "direct:///x"])),
                (penstock.UnsupportedOperationError, penstock.put_async(uri, 3))):
            with self.subTest(call=call.__name__), self.assertRaises(error):
                await call
        self.assertEqual(os.listdir(self.directory), [])

    async def test_many_are_refused_as_by_the_blocking_calls(self):
        uri = self.write("a", b"a")
        store = penstock.Store("file:///")
        for name, *arguments in (("get_many", uri), ("get_many", 7), ("get_many", [uri], 0),
                                 ("get_many", [uri], -1), ("get_many", [uri], 1 << 32),
                                 ("get_many", [uri], "2"), ("put_many", uri), ("put_many", 7),
                                 ("put_many", [uri]), ("put_many", [7]), ("put_many", [(uri, 7)]),
                                 ("put_many", [(uri, b"")], 0), ("put_many", [(uri, b"", 1)])):
            for of in (penstock, store):
                with self.subTest(of=of, name=name, arguments=arguments):
                    with self.assertRaises((TypeError, ValueError)) as blocking:
                        getattr(of, name)(*arguments)
                    with self.assertRaises(type(blocking.exception)) as caught:
                        await getattr(of, name + "_async")(*arguments)
                    self.assertEqual(str(caught.exception), str(blocking.exception))
        self.assertEqual(os.listdir(self.directory), ["a"])

    async def test_request_that_is_refused_fails_alone(self):
        uri = self.write("a", b"a")
        for refused in (f"file://{self.directory}/../a", "file:///", "file:///" + "long/" * 1000):
            with self.assertRaises(ValueError) as blocking:
                penstock.get(refused)
            for n in (1, 63, 64, 65, 200):
                uris = [refused if i % 7 == 0 or n == 64 else uri for i in range(n)]
                results = await asyncio.gather(*map(penstock.get_async, uris),
                                               return_exceptions=True)
                for each, result in zip(uris, results):
                    if each == refused:
                        self.assertIsInstance(result, penstock.InvalidArgumentError)
                        self.assertEqual(str(result), str(blocking.exception))
                    else:
                        self.assertEqual(bytes(result), b"a")


class Many(Case, unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        super().setUp()
        self.uris = [self.write(f"{i:03}", b"%d" % i) for i in range(300)]

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 60

    async def test_results_come_in_order_and_duplicates_apart(self):
        uris = [self.uris[i] for i in (3, 0, 3, 6)]
        results = await penstock.get_many_async(uris, 2)
        self.assertEqual([(u, bytes(v)) for u, v in results],
                         [(uris[0], b"3"), (uris[1], b"0"), (uris[2], b"3"), (uris[3], b"6")])
        self.assertIsNot(results[0][1], results[2][1])

    async def test_more_than_fly_at_once(self):
        for max_in_flight in (1, 7, 64, 1000):
            results = await penstock.get_many_async(self.uris, max_in_flight)
            self.assertEqual([bytes(v) for _, v in results], [b"%d" % i for i in range(300)])

    async def test_nothing_is_read_of_nothing(self):
        self.assertEqual(await penstock.get_many_async([]), penstock.get_many([]))

    async def test_first_failure_ends_it(self):
        with self.assertRaises(penstock.NotFoundError) as caught:
            await penstock.get_many_async([self.uris[0], self.uri("nothing"), *self.uris])
        self.assertEqual(caught.exception.uri, self.uri("nothing"))

    async def test_failures_come_among_the_results(self):
        uris = [self.uris[0], self.uri("nothing"), self.uris[1]]
        results = await penstock.get_many_async(uris, return_exceptions=True)
        self.assertEqual([u for u, _ in results], uris)
        self.assertEqual(bytes(results[2][1]), b"1")
        self.assertIsInstance(results[1][1], penstock.NotFoundError)

    async def test_names_that_are_refused(self):
        with self.assertRaises(penstock.InvalidArgumentError):
            await penstock.get_many_async([*self.uris, "file:///"])
        results = await penstock.get_many_async(["file:///", *self.uris], return_exceptions=True)
        self.assertIsInstance(results[0][1], penstock.InvalidArgumentError)
        self.assertEqual([bytes(v) for _, v in results[1:]], [b"%d" % i for i in range(300)])
        data = bytearray(1)
        with self.assertRaises(penstock.InvalidArgumentError):
            await penstock.put_many_async([(u, data) for u in ["file:///", *self.uris]], 4)
        data.append(0)  # nobody holds it any more

    async def test_many_are_written(self):
        items = [(self.uri(f"new{i}"), b"%d" % i) for i in range(200)]
        await penstock.put_many_async(items, 8)
        await penstock.put_many_async([(u, bytearray(d)) for u, d in items], borrow=False)
        self.assertEqual([self.read(f"new{i}") for i in range(200)], [d for _, d in items])

    async def test_many_attributes(self):
        stats = await penstock.stat_many_async(self.uris)
        self.assertEqual([s["size"] for s in stats], [len(str(i)) for i in range(300)])
        with self.assertRaises(penstock.NotFoundError):
            await penstock.stat_many_async([self.uri("nothing")])
        result, = await penstock.stat_many_async([self.uri("nothing")], return_exceptions=True)
        self.assertIsInstance(result, penstock.NotFoundError)

    async def test_one_wake_up_serves_many(self):
        await penstock.get_async(self.uris[0])
        loop = asyncio.get_running_loop()
        queue = _aio._links[id(loop)].queue
        reap = mock.Mock(wraps=queue.reap)
        loop.add_reader(queue.fileno(), reap)  # in place of its own
        tasks = [asyncio.ensure_future(penstock.get_async(uri)) for uri in self.uris]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(1)  # the loop has other things to do
        views = await asyncio.gather(*tasks)
        self.assertEqual([bytes(v) for v in views], [b"%d" % i for i in range(300)])
        self.assertGreater(reap.call_count, 0)
        self.assertLess(reap.call_count, 30)
        self.assertEqual(queue.n_pending, 0)


class Awaiting(Case, unittest.IsolatedAsyncioTestCase):
    """Operations and the tasks that wait for them."""

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 60
        self.a = self.write("a", b"hello")

    async def start(self, *coroutines):
        """Tasks whose operations have all come, though the loop does not know yet."""
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.5)
        return tasks

    async def test_task_is_cancelled_by_one_that_is_woken_with_it(self):
        async def get(i):
            view = await penstock.get_async(self.a)
            tasks[1 - i].cancel()
            return bytes(view)

        tasks = await self.start(get(0), get(1))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self.assertEqual({type(each) for each in results}, {bytes, asyncio.CancelledError})

    async def test_message_of_a_cancel_arrives(self):
        task, = await self.start(penstock.get_async(self.a))
        task.cancel("enough")
        with self.assertRaisesRegex(asyncio.CancelledError, "enough"):
            await task

    async def test_each_task_goes_on_in_its_own_context(self):
        number = contextvars.ContextVar("number")

        async def get(i):
            number.set(i)
            await penstock.get_async(self.a)
            return number.get()

        self.assertEqual(await asyncio.gather(*map(get, range(100))), list(range(100)))

    async def test_other_callbacks_get_their_turn(self):
        async def never_ends():
            while True:
                await penstock.get_many_async([])

        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1):
                await never_ends()

    async def test_tasks_written_in_python(self):
        loop = asyncio.get_running_loop()
        view = await asyncio.tasks._PyTask(penstock.get_async(self.a), loop=loop)
        self.assertEqual(bytes(view), b"hello")
        task = asyncio.tasks._PyTask(penstock.get_async(self.a), loop=loop)
        await asyncio.sleep(0)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task

    async def test_while_somebody_traces(self):
        before = sys.gettrace()
        sys.settrace(lambda *_: None)
        try:
            self.assertEqual(bytes(await penstock.get_async(self.a)), b"hello")
            with self.assertRaises(penstock.NotFoundError):
                await penstock.get_async(self.uri("nothing"))
        finally:
            sys.settrace(before)

    async def test_nothing_is_kept_of_what_was_awaited(self):
        kept = []

        async def get():
            kept.append(weakref.ref(asyncio.current_task()))
            await penstock.get_async(self.a)
            with contextlib.suppress(penstock.NotFoundError):
                await penstock.get_into_async(self.uri("nothing"), bytearray(1))

        gc.disable()
        try:
            for _ in range(10):
                await asyncio.create_task(get())
            await asyncio.sleep(0)
            self.assertEqual([each() for each in kept], [None] * 10)
        finally:
            gc.enable()


class Loops(Case):
    def setUp(self):
        super().setUp()
        self.a = self.write("a", b"hello")

    async def get(self):
        return bytes(await penstock.get_async(self.a))

    def test_each_loop_has_its_own_queue_and_takes_it_along(self):
        asyncio.run(self.get())
        gc.collect()
        before = n_descriptors()
        for _ in range(20):
            self.assertEqual(asyncio.run(self.get()), b"hello")
        gc.collect()
        self.assertLessEqual(n_descriptors(), before + 1)  # the last one may still be known
        self.assertLessEqual(len(_aio._links), 1)

    def test_task_that_ends_the_loop_leaves_the_others(self):
        async def get():
            await penstock.get_async(self.a)
            raise SystemExit

        async def run():
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0)
                time.sleep(0.05)  # what has come by now is taken together

        loop = asyncio.new_event_loop()
        loop.slow_callback_duration = 60
        tasks = [loop.create_task(get()) for _ in range(10)]
        for n in range(1, 11):
            with self.assertRaises(SystemExit):
                loop.run_until_complete(run())
            self.assertEqual(sum(task.done() for task in tasks), n)
        for task in tasks:
            self.assertRaises(SystemExit, task.result)
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()

    def test_loop_is_not_kept(self):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(self.get())
        loop.close()
        alive = weakref.ref(loop)
        del loop
        gc.collect()
        self.assertIsNone(alive())

    def test_loops_of_threads_work_side_by_side(self):
        results = []

        async def work():
            for _ in range(20):
                views = await asyncio.gather(*(self.get() for _ in range(20)))
                results.append(set(views) == {b"hello"})

        threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [True] * 80)

    def test_fork_in_a_running_loop(self):
        async def fork():
            await self.get()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if asyncio.run(self.get()) == b"hello" else 2
                finally:
                    os._exit(code)
            return pid

        pid = asyncio.run(fork())
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(asyncio.run(self.get()), b"hello")

    def test_other_loops(self):
        for name, run in runners().items():
            with self.subTest(loop=name):
                self.assertEqual(run(self.get), b"hello")


class AnyMoment(Case):
    """Tasks of every kind, half of them cancelled at a moment that chance chooses."""
    ROUNDS = 40

    def jobs(self, uris, buffer):
        uri = random.choice(uris)
        return [lambda: penstock.get_async(uri),
                lambda: penstock.get_async(self.uri("nothing")),
                lambda: penstock.get_into_async(uri, buffer),
                lambda: penstock.get_suffix_async(uri, 10),
                lambda: penstock.get_many_async(random.choices(uris, k=30), random.randint(1, 20)),
                lambda: penstock.put_bytes_async(uri, buffer),
                lambda: penstock.put_many_async([(u, buffer) for u in random.sample(uris, 10)], 3),
                lambda: penstock.copy_async(uri, uri + "c")]

    async def run_round(self, uris):
        buffers = [bytearray(5000) for _ in range(50)]
        tasks = [asyncio.ensure_future(random.choice(self.jobs(uris, b))()) for b in buffers]
        for task in random.sample(tasks, 25):
            if random.random() < 0.5:
                await asyncio.sleep(random.random() * 0.002)
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                self.assertIsInstance(result, (asyncio.CancelledError, penstock.NotFoundError))
        for buffer in buffers:
            buffer.append(0)  # nobody holds it any more

    def test_cancels_leave_nothing_behind(self):
        seed = random.randrange(1 << 32)
        random.seed(seed)
        uris = [self.write(str(i), bytes(5000)) for i in range(100)]

        async def run():
            for _ in range(self.ROUNDS):
                await self.run_round(uris)

        with self.subTest(seed=seed):
            asyncio.run(run())
            names = os.listdir(self.directory)
            self.assertEqual([n for n in names if not n.rstrip("c").isdigit()], [])


class SlowStore(Case):
    """Against a server that does not answer for now."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(FaultServer("s3"))

    def setUp(self):
        super().setUp()
        self.server.forget_all()
        self.addCleanup(self.server.set_faults)
        self.store = penstock.Store("s3://kit-bucket/", {
            "endpoint": "http://" + self.server.address, **OPTIONS})
        self.addCleanup(self.store.close)
        self.server.put("kit-bucket/a", b"hello")

    def stall(self, on="*"):
        self.server.set_faults({"on": on, "times": 0,
                                "fault": {"stall": {"at": "before_head", "ms": NEVER_MS}}})

    def cancel_after(self, make, seconds=0.2, n_sent=0):
        """Run a coroutine, cancel it once `n_sent` requests are there, and tell how long that took."""

        async def run():
            task = asyncio.ensure_future(make())
            await asyncio.sleep(seconds)
            until = time.monotonic() + 30
            while len(self.server.log()) < n_sent and time.monotonic() < until:
                await asyncio.sleep(0.02)
            self.assertFalse(task.done())
            began = time.monotonic()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            return time.monotonic() - began

        return asyncio.run(run())

    async def keys(self, prefix):
        return [entry.key async for entry in self.store.list_async(prefix)]

    def test_reads_end_when_they_are_cancelled(self):
        self.stall()
        buffer = bytearray(5)
        for make in (lambda: self.store.get_async("a"),
                     lambda: self.store.get_range_async("a", 1, 2),
                     lambda: self.store.get_into_async("a", buffer),
                     lambda: self.store.get_many_async(["a"] * 100, 8),
                     lambda: self.store.stat_async("a"),
                     lambda: self.store.exists_async("a"),
                     lambda: self.store.get_suffix_async("a", 2),
                     lambda: self.store.get_ranges_async("a", [(0, 1)]),
                     lambda: self.store.get_async("a", decode="name"),
                     lambda: self.keys("a"),
                     lambda: self.store.download_async("a", self.directory),
                     lambda: self.store.delete_async("a", recursive=True)):
            with self.subTest(call=make.__code__.co_consts):
                self.assertLess(self.cancel_after(make), SOON_S)
        buffer.append(0)  # nobody holds it any more
        self.server.set_faults()
        time.sleep(0.3)
        self.assertEqual(buffer, bytes(6))

    def test_writes_leave_nothing_behind(self):
        self.stall(["put", "upload_open", "upload_part"])
        data = bytearray(b"x" * 100000)
        items = [(f"new{i}", data) for i in range(50)]
        for n_sent, make in ((1, lambda: self.store.put_bytes_async("new", data)),
                             (4, lambda: self.store.put_many_async(items, 4))):
            self.server.forget_log()
            # A server may read late what lies in its socket: what it has read by now was all there was.
            self.assertLess(self.cancel_after(make, n_sent=n_sent), SOON_S)
            data.append(0)  # nobody holds it any more
            time.sleep(0.3)
            self.assertEqual(len(self.server.log()), n_sent)
        self.assertEqual(self.server.uploads(), [])

    def test_upload_in_parts_is_aborted(self):
        self.stall(["upload_part"])
        self.write("big", bytes(40 << 20))
        path = os.path.join(self.directory, "big")
        self.assertLess(self.cancel_after(lambda: self.store.upload_async(path, "up"), 1), SOON_S)
        until = time.monotonic() + 10  # what takes longer than a second goes on by itself
        while self.server.uploads() and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.server.uploads(), [])
        self.assertNotIn("kit-bucket/up/big", self.server.objects())
        self.assertIn("upload_abort", [request["do"] for request in self.server.log()])

    def test_asyncio_timeout(self):
        self.stall()

        async def run():
            began = time.monotonic()
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self.store.get_async("a")
            with self.assertRaises(TimeoutError):
                await asyncio.wait_for(self.store.get_suffix_async("a", 2), 0.2)
            return time.monotonic() - began

        self.assertLess(asyncio.run(run()), 0.4 + 2 * SOON_S)

    def test_timeout_of_other_loops(self):
        self.stall()
        buffer = bytearray(5)

        async def run():
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.2), asyncio.TaskGroup() as group:
                    group.create_task(self.store.get_into_async("a", buffer))
                    group.create_task(self.store.put_bytes_async("b", buffer))
                    group.create_task(self.store.get_suffix_async("a", 2))
            buffer.append(0)  # nobody holds it any more

        for name, run_with in runners().items():
            with self.subTest(loop=name):
                began = time.monotonic()
                run_with(run)
                self.assertLess(time.monotonic() - began, 0.2 + SOON_S)

    def test_scope_that_is_cancelled(self):
        if "anyio" not in runners():
            return
        import anyio
        self.stall()

        async def run():
            began = time.monotonic()
            with anyio.move_on_after(0.2) as scope:
                await self.store.put_bytes_async("b", bytes(1000))
            return scope.cancelled_caught, time.monotonic() - began

        is_cancelled, took = anyio.run(run)
        self.assertTrue(is_cancelled)
        self.assertLess(took, 0.2 + SOON_S)

    def test_timeout_of_the_call(self):
        self.stall()
        for make in (lambda: self.store.get_async("a", timeout=0.1),
                     lambda: self.store.put_bytes_async("b", b"x", timeout=0.1),
                     lambda: self.store.get_many_async(["a"] * 10, 2, timeout=0.1)):
            began = time.monotonic()
            with self.assertRaises(penstock.TimeoutError) as caught:
                asyncio.run(make())
            self.assertLess(time.monotonic() - began, 0.1 + SOON_S)
            self.assertEqual(caught.exception.code, "DEADLINE")
            self.assertTrue(caught.exception.uri.startswith("s3://kit-bucket/"))

    def test_end_before_anything_was_sent(self):
        async def run():
            for end in (lambda c: c.throw(asyncio.CancelledError), lambda c: c.close()):
                buffer = bytearray(5)
                coroutine = self.store.get_into_async("a", buffer)
                coroutine.send(None)
                with contextlib.suppress(asyncio.CancelledError):
                    end(coroutine)
                buffer.append(0)  # nobody holds it any more
            await asyncio.sleep(0.1)

        self.server.forget_log()
        asyncio.run(run())
        self.assertEqual(self.server.log(), [])

    def test_whatever_is_thrown_waits_for_the_end(self):
        self.stall()

        async def run():
            buffer = bytearray(5)
            coroutine = self.store.get_into_async("a", buffer)
            operation = coroutine.send(None)
            await asyncio.sleep(0.2)
            try:
                while coroutine.throw(KeyError("mine")) is operation:
                    with self.assertRaises(BufferError):
                        buffer.append(0)  # it may still be written
                    await asyncio.sleep(0.01)
            except KeyError as error:
                self.assertEqual(error.args, ("mine",))
            buffer.append(0)

        began = time.monotonic()
        asyncio.run(run())
        self.assertLess(time.monotonic() - began, 0.2 + SOON_S)

    def test_cancelled_twice(self):
        self.stall()

        async def run():
            task = asyncio.ensure_future(self.store.put_bytes_async("b", b"x" * 1000))
            await asyncio.sleep(0.2)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            return task.cancelled()

        self.assertTrue(asyncio.run(run()))

    def test_failure_among_many_ends_the_others(self):
        self.server.set_faults({"on": "get", "key": "a", "times": 0, "fault": {
            "stall": {"at": "before_head", "ms": NEVER_MS}}})
        began = time.monotonic()
        with self.assertRaises(penstock.NotFoundError):
            asyncio.run(self.store.get_many_async(["a", "nothing", "a"]))
        self.assertLess(time.monotonic() - began, SOON_S)

    def test_as_many_at_once_as_were_asked_for(self):
        self.server.set_faults({"on": "get", "times": 0, "fault": {"delay_ms": 300}})
        began = time.monotonic()
        asyncio.run(self.store.get_many_async(["a"] * 8, 2))
        self.assertGreater(time.monotonic() - began, 1.19)
        began = time.monotonic()
        asyncio.run(self.store.get_many_async(["a"] * 8, 8))
        self.assertLess(time.monotonic() - began, 1.19)

    def test_loop_that_is_closed_over_its_work(self):
        self.stall()
        buffer = bytearray(5)
        loop = asyncio.new_event_loop()
        coroutine = self.store.get_into_async("a", buffer)
        with self.assertRaises(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(asyncio.shield(loop.create_task(coroutine)),
                                                     0.2))
        with mock.patch.object(loop, "call_exception_handler"):
            loop.close()
            self.server.set_faults()
            self.assertEqual(bytes(asyncio.run(self.store.get_async("a"))), b"hello")
            del loop, coroutine
            gc.collect()
        self.assertEqual(buffer, bytes(5))

    def run_script(self, lines):
        script = "\n".join(["import asyncio, os, signal, sys, time, penstock",
                            # A shell's background job has it ignored.
                            "signal.signal(signal.SIGINT, signal.default_int_handler)",
                            f"store = penstock.Store('s3://kit-bucket/', {self.store.options!r} | "
                            f"{OPTIONS!r})", *lines])
        return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, cwd=self.directory)

    def test_interrupt_ends_the_loop(self):
        self.stall()
        process = self.run_script(["async def main():",
                                   "    print('ready', flush=True)",
                                   "    await store.put_bytes_async('b', b'x' * 1000)",
                                   "asyncio.run(main())"])
        process.stdout.readline()
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        self.assertLess(time.monotonic() - began, 2 * SOON_S)
        self.assertIn("KeyboardInterrupt", errors)

    def test_interpreter_exits_with_work_under_way(self):
        self.stall()
        process = self.run_script(["async def main():",
                                   "    global task, buffer",
                                   "    buffer = bytearray(5)",
                                   "    read = store.get_into_async('a', buffer)",
                                   "    task = asyncio.ensure_future(read)",
                                   "    await asyncio.sleep(0.2)",
                                   "loop = asyncio.new_event_loop()",
                                   "loop.run_until_complete(main())",
                                   "print('done')"])
        began = time.monotonic()
        output, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, output), (0, "done\n"), errors)
        self.assertLess(time.monotonic() - began, 5)


class Methods(Case, unittest.IsolatedAsyncioTestCase):
    async def test_a_store_has_them_by_key(self):
        with penstock.Store("file:///") as store:
            key = self.directory.lstrip("/") + "/a"
            await store.put_bytes_async(key, b"hello")
            self.assertEqual(bytes(await store.get_async(key)), b"hello")
            self.assertEqual(bytes(await store.get_range_async(key, 1, 2)), b"el")
            self.assertEqual(await store.get_into_async(key, bytearray(9)), 5)
            self.assertEqual([(k, bytes(v)) for k, v in await store.get_many_async([key])],
                             [(key, b"hello")])
            self.assertEqual((await store.stat_async(key))["size"], 5)
            await store.copy_async(key, key + "b")
            await store.put_many_async([(key + "c", b"c")])
            keys = [entry.key async for entry in store.list_async(key)]
            self.assertEqual([entry.key async for entry in penstock.iterate_async(
                "file:///" + key)], keys)
            self.assertEqual(keys, [key, key + "b", key + "c"])
            await store.put_async(key + "d/e", b"e")
            await store.delete_async(key + "d", recursive=True)
            await store.delete_async(key)
            self.assertFalse(await store.exists_async(key))
            with self.assertRaises(penstock.NotFoundError) as caught:
                await store.get_async(key)
            self.assertEqual(caught.exception.uri, "file:///" + key)

    async def test_store_that_is_closed_meanwhile(self):
        store = penstock.Store("file:///")
        read = asyncio.ensure_future(store.get_async(self.write("a", b"hello")[8:]))
        await asyncio.sleep(0)
        store.close()
        self.assertEqual(bytes(await read), b"hello")

    async def test_closed_store(self):
        store = penstock.Store("file:///")
        store.close()
        with self.assertRaises(ValueError):
            await store.get_async("a")


if __name__ == "__main__":
    unittest.main()

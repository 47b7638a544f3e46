"""Coroutines over a real store, under each event loop that there is: those of asyncio and uvloop, by
themselves and below anyio. What is cancelled leaves nothing behind, and trio is told that it is none.

Run by the script beside this, below tests/servers/up.
"""
import asyncio
import faulthandler
import os
import time
import unittest

import anyio
import trio
import uvloop

import penstock
import support

LIMIT_S = 120  # far more than anything here takes: what hangs ends with the stacks of its threads
SOON_S = 3.0   # a second, on a machine that has much else to do
BIG = os.urandom(32 * support.MIB)  # so long that most of the delays below end it
DELAYS_S = (0.003, 0.03)


def run_asyncio(function):
    return asyncio.run(function())


def run_uvloop(function):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(function())


def run_anyio(function):
    return anyio.run(function)


def run_anyio_on_uvloop(function):
    return anyio.run(function, backend_options={"use_uvloop": True})


LOOPS = (run_asyncio, run_uvloop, run_anyio, run_anyio_on_uvloop)


class Case(support.Case):
    def setUp(self):
        super().setUp()
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def in_loops(self, function, loops=LOOPS):
        for run in loops:
            with self.subTest(run.__name__):
                run(function)

    def assert_nothing_left(self):
        """No upload is under way, and an object is there whole or not at all."""
        self.assertEqual(support.uploads(self.s3, self.bucket), [])
        for key in self.keys():
            self.assertEqual(self.body(key), BIG)


class Loops(Case):
    def test_objects_one_by_one_and_many_at_once(self):
        async def run():
            data = {self.s3_uri(f"{i:03}"): os.urandom(i * 100) for i in range(200)}
            await penstock.put_many_async(list(data.items()))
            views = await asyncio.gather(*(penstock.get_async(uri) for uri in data))
            self.assertEqual([bytes(view) for view in views], list(data.values()))
            pairs = await penstock.get_many_async(list(data), 32)
            self.assertEqual([(uri, bytes(view)) for uri, view in pairs], list(data.items()))
            self.assertEqual([entry.key async for entry in penstock.iterate_async(self.s3_uri())],
                             [uri.rpartition("/")[2] for uri in data])
            with self.assertRaises(penstock.NotFoundError):
                await penstock.get_async(self.s3_uri("none"))
            self.assertEqual(self.body("199"), data[self.s3_uri("199")])

        self.in_loops(run)

    def test_timeout_leaves_nothing_behind(self):
        """asyncio's own; anyio has another, below."""
        async def run():
            n_ended = 0
            for delay_s in DELAYS_S:
                for write in self.writes():
                    began = time.monotonic()
                    try:
                        async with asyncio.timeout(delay_s):
                            await write()
                    except TimeoutError:
                        n_ended += 1
                        self.assertLess(time.monotonic() - began, delay_s + SOON_S)
                    self.assert_nothing_left()
            self.assertGreater(n_ended, 0)

        self.in_loops(run, LOOPS[:2])

    def writes(self):
        path = self.path("big")
        if not os.path.exists(path):
            with open(path, "wb") as f:
                f.write(BIG)
        return (lambda: penstock.put_bytes_async(self.s3_uri("put"), BIG),
                lambda: penstock.put_many_async([(self.s3_uri(f"many{i}"), BIG) for i in range(3)]),
                lambda: penstock.upload_async(path, self.s3_uri()))

    def test_buffers_are_free_when_a_task_has_ended(self):
        self.s3.put_object(Bucket=self.bucket, Key="big", Body=BIG)

        async def run():
            buffer = bytearray(len(BIG))
            for delay_s in DELAYS_S:
                task = asyncio.ensure_future(
                    penstock.get_into_async(self.s3_uri("big"), buffer))
                await asyncio.sleep(delay_s)
                task.cancel()
                await asyncio.wait((task,))
                buffer[:] = bytes(len(buffer))
                await asyncio.sleep(0.05)
                self.assertFalse(any(buffer))
                buffer.append(0)  # nobody holds it any more
                buffer.pop()

        self.in_loops(run)


class Anyio(Case):
    loops = (run_anyio, run_anyio_on_uvloop)

    def test_task_group(self):
        async def run():
            found = {}

            async def read(key):
                found[key] = bytes(await penstock.get_async(self.s3_uri(key)))

            for key in "abc":
                await penstock.put_bytes_async(self.s3_uri(key), key.encode())
            async with anyio.create_task_group() as group:
                for key in "abc":
                    group.start_soon(read, key)
            self.assertEqual(found, {"a": b"a", "b": b"b", "c": b"c"})

        self.in_loops(run, self.loops)

    def test_failure_in_a_task_group_ends_the_others(self):
        async def run():
            buffer = bytearray(BIG)
            began = time.monotonic()
            with self.assertRaises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as group:
                    group.start_soon(penstock.put_bytes_async, self.s3_uri("put"), buffer)
                    group.start_soon(penstock.get_async, self.s3_uri("none"))
            self.assertIsInstance(caught.exception.exceptions[0], penstock.NotFoundError)
            self.assertLess(time.monotonic() - began, SOON_S)
            buffer.append(0)  # nobody holds it any more
            self.assert_nothing_left()

        self.in_loops(run, self.loops)

    def test_move_on_after(self):
        async def run():
            n_ended = 0
            for delay_s in DELAYS_S:
                began = time.monotonic()
                with anyio.move_on_after(delay_s) as scope:
                    await penstock.put_bytes_async(self.s3_uri("put"), BIG)
                n_ended += scope.cancelled_caught
                self.assertLess(time.monotonic() - began, delay_s + SOON_S)
                self.assert_nothing_left()
            self.assertGreater(n_ended, 0)

        self.in_loops(run, self.loops)

    def test_fail_after(self):
        async def run():
            with self.assertRaises(TimeoutError):
                with anyio.fail_after(DELAYS_S[0]):
                    while True:
                        await penstock.put_bytes_async(self.s3_uri("put"), BIG)
            self.assert_nothing_left()

        self.in_loops(run, self.loops)

    def test_scope_that_is_shielded_works_within_one_that_is_cancelled(self):
        async def run():
            with anyio.CancelScope() as scope:
                try:
                    scope.cancel()
                    await penstock.put_bytes_async(self.s3_uri("put"), BIG)
                    self.fail("this was cancelled")
                finally:
                    with anyio.CancelScope(shield=True):
                        await penstock.put_bytes_async(self.s3_uri("last"), BIG)
            self.assertTrue(scope.cancelled_caught)
            self.assert_nothing_left()
            self.assertIn("last", self.keys())

        self.in_loops(run, self.loops)


class Trio(Case):
    """An event loop that is none of asyncio's is refused at once, and clearly."""

    def calls(self):
        store = penstock.Store(self.s3_uri())
        uri = self.s3_uri("a")
        return (lambda: penstock.get_async(uri), lambda: penstock.get_many_async([uri]),
                lambda: penstock.put_bytes_async(uri, b"x"), lambda: store.get_async("a"),
                lambda: penstock.get_suffix_async(uri, 1), lambda: penstock.copy_async(uri, uri),
                lambda: penstock.upload_async(self.path("a"), uri),
                lambda: anext(penstock.iterate_async(uri)), lambda: anext(store.list_async()))

    def test_trio_is_told_what_is_needed(self):
        async def run():
            for call in self.calls():
                with self.assertRaisesRegex(RuntimeError, "asyncio.*trio"):
                    with trio.fail_after(LIMIT_S / 4):
                        await call()

        trio.run(run)
        anyio.run(run, backend="trio")
        self.assertEqual(self.keys(), [])

    def test_threads_of_trio_may_wait(self):
        """What the documents say for it."""
        async def run():
            await trio.to_thread.run_sync(penstock.put_bytes, self.s3_uri("a"), b"data")
            view = await trio.to_thread.run_sync(penstock.get, self.s3_uri("a"))
            self.assertEqual(view, b"data")

        trio.run(run)


if __name__ == "__main__":
    unittest.main()

"""Python code that runs in the middle of a call, or beside it: of arguments, finalizers, other threads."""
import asyncio
import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import weakref

import fake_s3
import penstock

DATA = bytes(range(256)) * 1024


class WithFiles(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.file = f"file://{self.dir}/file"


class WithServer(unittest.TestCase):
    def setUp(self):
        self.s3 = fake_s3.FakeS3()
        self.addCleanup(self.s3.close)
        self.s3.objects["bucket/a"] = DATA

    def open(self, give):
        """A Store that asks `give` for its credentials, and so has a context of its own."""
        options = {"endpoint": self.s3.endpoint, "region": "us-east-1"}
        return penstock.Store("s3://bucket/", options, credentials=give)


def credentials(uri):
    return {"access_key_id": "id", "secret_access_key": "secret"}


class Items:
    """Something with items(), but no mapping."""

    def __init__(self, items):
        self.given = items

    def items(self):
        return self.given


class Index:
    def __init__(self, run, value):
        self.run = run
        self.value = value

    def __index__(self):
        self.run()
        return self.value


class Views(unittest.TestCase):
    def test_release_while_dlpack_looks_at_its_arguments(self):
        class Device:
            def __getitem__(self, i):
                view.release()
                return (1, 0)[i]

        class Yes:
            def __bool__(self):
                view.release()
                return True

        for arguments in ({"dl_device": Device()}, {"copy": Yes()}):
            view = penstock.BytesView(DATA)
            capsule = view.__dlpack__(max_version=(1, 0), **arguments)
            self.assertIn("dltensor_versioned", repr(capsule))
            with self.assertRaises(ValueError):
                len(view)


class Stores(WithServer):
    def test_credentials_that_are_no_mapping(self):
        for items in ([1], [("access_key_id",)], [["access_key_id", "id"]], [()]):
            with self.subTest(items), self.open(lambda uri: Items(items)) as store:
                with self.assertRaisesRegex(penstock.UnauthenticatedError, "must be a mapping"):
                    store.get("a")

    def test_finalizer_of_a_subclass_sees_a_store_that_was_not_opened(self):
        seen = []

        class Mine(penstock.Store):
            def __del__(self):
                seen.append((self.uri, self.options, self.closed, repr(self)))
                for use in (lambda: self.get("a"), lambda: self.put_many([("a", b"")]),
                            lambda: next(self.list()), self.describe, self.__enter__):
                    try:
                        use()
                    except ValueError as error:
                        seen.append(str(error))
                self.close()

        with self.assertRaises(penstock.NoSchemeError):
            Mine("nosuch://x/")
        gc.collect()
        self.assertEqual(seen, [("nosuch://x/", {}, True, "<penstock.Store 'nosuch://x/', closed>")]
                         + ["the Store is closed"] * 5)
        with self.assertRaises(TypeError):
            Mine(1)
        self.assertEqual(len(seen), 6)

    def test_items_that_close_the_store(self):
        store = self.open(credentials)

        def none():
            store.close()
            yield from ()

        self.assertIsNone(store.put_many(none()))

    def test_what_a_closed_store_gave_stays(self):
        for i in range(20):
            self.s3.objects[f"bucket/b{i}"] = b""
        store = self.open(credentials)
        view = store.get("a")
        listing = store.list("b")
        self.assertEqual(next(listing).key, "b0")
        store.close()
        self.assertEqual(view, DATA)
        self.assertEqual(len(list(listing)), 19)  # the rest of the page

    def test_function_that_closes_its_own_store(self):
        def give(uri):
            store.close()
            return credentials(uri)

        store = self.open(give)
        with self.assertRaises(penstock.CancelledError):
            next(store.list())
        store = self.open(give)
        self.assertEqual(store.get("a"), DATA)  # a call is let come to its end
        self.assertTrue(store.closed)

    def test_context_is_made_once(self):
        code = ("import logging, os, threading, time\n"
                "class Slow(logging.Logger):\n"
                "    def getEffectiveLevel(self):\n"
                "        time.sleep(0.05)\n"
                "        return 30\n"
                "logging.setLoggerClass(Slow)\n"
                "import penstock\n"
                "threads = [threading.Thread(target=penstock.stats) for _ in range(8)]\n"
                "for thread in threads: thread.start()\n"
                "for thread in threads: thread.join()\n"
                "until = time.monotonic() + 10\n"
                "def others(): return len(os.listdir('/proc/self/task')) - 1\n"
                "while others() > 1 and time.monotonic() < until: time.sleep(0.01)\n"
                "print(others())\n")
        done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True,
                              timeout=100)
        self.assertEqual((done.stdout, done.stderr), ("1\n", ""))


class Writers(WithFiles):
    def writer(self):
        return penstock.open_writer(self.file)

    def test_index_that_uses_the_writer(self):
        uses = {"write": (b"x",), "write_owned_bytes": (bytearray(DATA),), "commit": (1,),
                "reserve": (4,), "cancel": (), "finalize": ()}
        for name, arguments in uses.items():
            writer = self.writer()
            writer.reserve(10)
            with self.subTest(name), self.assertRaises(ValueError):
                writer.commit(Index(lambda: getattr(writer, name)(*arguments), 8))
            writer.cancel() if not writer.closed else None

    def test_watcher_of_reserved_memory_that_ends_the_writer(self):
        uses = {"write": (b"x",), "write_chunk": (penstock.BytesView(DATA),),
                "write_owned_bytes": (bytearray(DATA),), "reserve": (4,), "finalize": ()}
        for name, arguments in uses.items():
            writer = self.writer()
            memory = writer.reserve(10)
            watcher = weakref.ref(memory, lambda _: writer.cancel())
            del memory
            with self.subTest(name), self.assertRaises(penstock.InvalidArgumentError):
                getattr(writer, name)(*arguments)
            self.assertIsNone(watcher())
            self.assertFalse(penstock.exists(self.file))

    def test_committed_memory_is_not_lent_again(self):
        writer = self.writer()
        memory = writer.reserve(len(DATA))
        memory[:] = DATA
        owner = memory.obj
        writer.commit()
        with self.assertRaises(BufferError):
            memoryview(owner)
        writer.finalize()
        self.assertEqual(penstock.get(self.file), DATA)


class Threads(WithServer):
    def together(self, *functions):
        """Run each on a thread of its own, all at the same moment."""
        barrier = threading.Barrier(len(functions))
        failures = []

        def run(function):
            barrier.wait()
            try:
                function()
            except (ValueError, penstock.CancelledError):
                pass  # "is in use by another thread", or "is closed"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(one,)) for one in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def setUp(self):
        super().setUp()
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)

    def test_reader_that_is_closed_twice_and_read_from(self):
        with penstock.Store("s3://bucket/", self.s3.options()) as store:
            for _ in range(20):
                file = store.open_reader("a", part_bytes=16384)
                while file.tell() < 100_000:
                    file.read(30_000)
                self.together(file.close, file.close, lambda: file.read(50_000))
                file.close()
                self.assertTrue(file.closed)

    def test_store_that_is_closed_under_a_listing(self):
        for i in range(100):
            self.s3.objects[f"bucket/b{i}"] = b""
        for _ in range(10):
            store = self.open(credentials)
            listing = store.list(page_entries=20)
            self.together(lambda: list(listing), store.close, store.close)

    def test_loops_that_end_what_closed_ones_left(self):
        self.s3.is_hanging = True
        with penstock.Store("s3://bucket/", self.s3.options()) as store:
            loops = [asyncio.new_event_loop() for _ in range(40)]
            tasks = []

            async def begin():
                tasks.extend(asyncio.ensure_future(store.get_async("a")) for _ in range(5))
                await asyncio.sleep(0.001)

            for loop in loops:
                loop.run_until_complete(begin())
            for loop in loops:
                loop.close()

            async def look():
                self.assertTrue(await penstock.exists_async(f"file://{__file__}"))

            self.together(*[lambda: asyncio.run(look())] * 8)
            for task in tasks:
                task._log_destroy_pending = False
            self.s3.hang.set()


if __name__ == "__main__":
    unittest.main()

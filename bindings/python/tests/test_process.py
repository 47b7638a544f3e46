"""Processes: fork after use, spawn, forkserver, exit with work under way, subinterpreters."""
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

import fake_s3
import penstock

LIMIT_S = 60


def read_all(uris):
    return [penstock.get(uri).to_bytes() for uri in uris]


def read_from(store, key):
    return store.get(key).to_bytes()


def run(code, *arguments, **more):
    """Run Python code in a process of its own: exit code, output."""
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S,
                            text=True, check=False, **more)
    return result.returncode, result.stdout


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.uris = [f"file://{self.dir}/{i}" for i in range(4)]
        for i, uri in enumerate(self.uris):
            penstock.put_bytes(uri, bytes([i]) * 1000)
        self.expected = [bytes([i]) * 1000 for i in range(4)]

    def fork(self, work):
        """Run `work` in a child: what it returns is the exit code."""
        pid = os.fork()
        if pid == 0:
            try:
                code = work()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 99
            os._exit(code or 0)
        deadline = time.monotonic() + LIMIT_S
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                self.fail("the child hangs")
            time.sleep(0.002)


class Forks(Case):
    def test_children_of_a_process_that_used_it_work(self):
        read_all(self.uris)

        def work():
            return 0 if read_all(self.uris) == self.expected else 1

        for _ in range(200):
            self.assertEqual(self.fork(work), 0)
        self.assertEqual(read_all(self.uris), self.expected)

    def test_views_and_stores_of_the_parent_work_in_the_child(self):
        view = penstock.get(self.uris[1])
        store = penstock.Store("file:///", {"root": self.dir})
        store.get("0")

        def work():
            if view != self.expected[1] or store.get("2") != self.expected[2]:
                return 1
            store.put("new", b"1")
            return 0

        self.assertEqual(self.fork(work), 0)
        self.assertEqual(store.get("new"), b"1")

    def test_fork_while_other_threads_read(self):
        stop = threading.Event()

        def read():
            while not stop.is_set():
                read_all(self.uris)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                self.assertEqual(self.fork(lambda: 0 if read_all(self.uris) == self.expected else 1), 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_fork_with_connections_open(self):
        with fake_s3.FakeS3() as s3:
            s3.objects["bucket/a"] = b"x" * 100_000
            store = penstock.Store("s3://bucket/", s3.options())
            store.get("a")
            listing = store.list()

            def work():
                return 0 if store.get("a") == b"x" * 100_000 and len(list(store.list())) == 1 else 1

            for _ in range(10):
                self.assertEqual(self.fork(work), 0)
            self.assertEqual(len(list(listing)), 1)
            self.assertEqual(store.get("a"), b"x" * 100_000)

    def test_child_asks_for_credentials_of_its_own(self):
        with fake_s3.FakeS3() as s3:
            s3.objects["bucket/a"] = b"1"
            asked = []

            def ask(uri):
                asked.append(uri)
                return {"access_key_id": f"of-{os.getpid()}", "secret_access_key": "s"}

            store = penstock.Store("s3://bucket/", {"endpoint": s3.endpoint}, credentials=ask)
            store.get("a")

            def work():
                return 0 if store.get("a") == b"1" and len(asked) == 2 else 1

            for _ in range(5):
                self.assertEqual(self.fork(work), 0)
            self.assertEqual(len(asked), 1)
            self.assertEqual(len(set(s3.keys)), 6)

    def test_ctrl_c_is_heard_in_a_child(self):
        with fake_s3.FakeS3() as s3:
            store = penstock.Store("s3://bucket/", s3.options())
            with self.assertRaises(penstock.NotFoundError):
                store.get("a")
            s3.is_hanging = True

            def work():
                import signal
                signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError))
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                start = time.monotonic()
                try:
                    store.get("a")
                except InterruptedError:
                    return 0 if time.monotonic() - start < 1.3 else 2
                return 1

            self.assertEqual(self.fork(work), 0)


class Pools(Case):
    def test_each_start_method_works(self):
        read_all(self.uris)
        store = penstock.Store("file:///", {"root": self.dir})
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                context = multiprocessing.get_context(method)
                with context.Pool(2) as pool:
                    self.assertEqual(pool.apply(read_all, (self.uris,)), self.expected)
                    self.assertEqual(pool.apply(read_from, (store, "3")), self.expected[3])
                    with self.assertRaises(penstock.NotFoundError) as caught:
                        pool.apply(read_from, (store, "none"))
                    self.assertEqual(caught.exception.code, "NOT_FOUND")


class Exits(Case):
    def test_exit_with_calls_under_way_is_clean(self):
        with fake_s3.FakeS3() as s3:
            s3.is_hanging = True
            child = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
                import sys, threading, penstock
                def wait(n):
                    try:
                        if n % 3 == 0:
                            penstock.get("s3://bucket/a")
                        elif n % 3 == 1:
                            penstock.put("s3://bucket/b", b"x" * 100000)
                        else:
                            list(penstock.iterate("s3://bucket/"))
                    except penstock.Error:
                        pass
                for n in range(9):
                    threading.Thread(target=wait, args=(n,), daemon=True).start()
                sys.stdin.read(1)
                print("end")
                """)], env={**os.environ, **s3.environment()}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(9):
                self.assertTrue(s3.waiting.acquire(timeout=LIMIT_S))
            output, _ = child.communicate("x", timeout=LIMIT_S)
            self.assertEqual((child.returncode, output), (0, "end\n"))

    def test_exit_while_a_credentials_function_runs_is_clean(self):
        with fake_s3.FakeS3() as s3:
            code, output = run("""
                import sys, threading, time, penstock
                entered = threading.Event()
                def ask(uri):
                    entered.set()
                    time.sleep(30)
                store = penstock.Store("s3://bucket/", {"endpoint": sys.argv[1]}, credentials=ask)
                threading.Thread(target=store.get, args=("a",), daemon=True).start()
                entered.wait()
                print("end")
                """, s3.endpoint)
        self.assertEqual((code, output), (0, "end\n"))

    def test_os_exit_with_calls_under_way(self):
        code, output = run("""
            import os, sys, threading, penstock
            def read():
                while True:
                    penstock.get(sys.argv[1])
            for _ in range(4):
                threading.Thread(target=read, daemon=True).start()
            penstock.get(sys.argv[1])
            os._exit(7)
            """, self.uris[0])
        self.assertEqual((code, output), (7, ""))

    def test_exit_with_everything_alive(self):
        code, output = run("""
            import sys, penstock
            view = penstock.get(sys.argv[1])
            keep = memoryview(view)
            store = penstock.Store("file:///")
            listing = store.list(sys.argv[1][8:])
            next(listing)
            class Holder:
                def __del__(self):
                    self.store.exists("x")
            holder = Holder()
            holder.store = store
            holder.itself = holder
            """, self.uris[0])
        self.assertEqual((code, output), (0, ""))

    def test_ctrl_c_ends_a_script_in_a_second(self):
        with fake_s3.FakeS3() as s3:
            s3.is_hanging = True
            child = subprocess.Popen(
                [sys.executable, "-c", "import penstock; penstock.get('s3://bucket/a')"],
                env={**os.environ, **s3.environment()}, stderr=subprocess.PIPE, text=True)
            s3.waiting.acquire()
            start = time.monotonic()
            child.send_signal(2)
            _, errors = child.communicate(timeout=LIMIT_S)
            self.assertLess(time.monotonic() - start, 1.5)
            self.assertIn("KeyboardInterrupt", errors)
            self.assertEqual(child.returncode, -2)


if __name__ == "__main__":
    unittest.main()

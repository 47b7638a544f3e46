"""Ctrl-C, and signal handlers that raise or do not, during calls that wait."""
import os
import shutil
import signal
import tempfile
import threading
import time
import unittest

import fake_s3
import penstock

S3 = fake_s3.FakeS3()
unittest.addModuleCleanup(S3.close)
os.environ.update(S3.environment())
LIMIT_S = 1.0


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        S3.objects.clear()
        S3.is_hanging = True
        S3.hang.clear()
        self.addCleanup(S3.hang.set)

    def interrupt_once_waiting(self, number=signal.SIGINT):
        """Send the signal when the server has a request that it does not answer; its time comes back."""
        sent = []

        def send():
            S3.waiting.acquire()
            time.sleep(0.1)
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=send)
        thread.start()
        self.addCleanup(thread.join)
        return sent

    def check(self, call, kind=KeyboardInterrupt, number=signal.SIGINT):
        while S3.waiting.acquire(blocking=False):
            pass
        sent = self.interrupt_once_waiting(number)
        with self.assertRaises(kind):
            call()
        self.assertLess(time.monotonic() - sent[0], LIMIT_S)


class Interrupts(Case):
    def write_much(self):
        with penstock.create_s3_writer("s3://bucket/w") as writer:
            for _ in range(20):
                writer.write(b"x" * 8_000_000)

    def test_each_call_ends_within_a_second(self):
        into = bytearray(100)
        path = os.path.join(self.dir, "file")
        with open(path, "wb") as f:
            f.write(b"x" * 1000)
        calls = {
            "get": lambda: penstock.get("s3://bucket/a"),
            "get_range": lambda: penstock.get_range("s3://bucket/a", 0, 10),
            "get_into": lambda: penstock.get_into("s3://bucket/a", into),
            "put": lambda: penstock.put("s3://bucket/a", b"x"),
            "stat": lambda: penstock.stat("s3://bucket/a"),
            "exists": lambda: penstock.exists("s3://bucket/a"),
            "delete": lambda: penstock.delete("s3://bucket/a"),
            "list": lambda: penstock.list("s3://bucket/"),
            "copy": lambda: penstock.copy("s3://bucket/a", "s3://bucket/b"),
            "copy through memory": lambda: penstock.copy("s3://bucket/a", "file://" + path + "2"),
            "upload": lambda: penstock.upload(path, "s3://bucket/"),
            "create_bucket": lambda: penstock.create_bucket("other"),
            "delete_prefix": lambda: penstock.delete_prefix("s3://bucket/x/"),
            "delete below": lambda: penstock.delete("s3://bucket/x", recursive=True),
            "download": lambda: penstock.download("s3://bucket/x", self.dir),
            "list_containers": penstock.list_containers,
            "get_many": lambda: penstock.get_many([f"s3://bucket/{i}" for i in range(20)]),
            "get_ranges": lambda: penstock.get_ranges("s3://bucket/a", [(0, 1), (1 << 30, 1)]),
            "put_many": lambda: penstock.put_many([(f"s3://bucket/{i}", b"x") for i in range(20)]),
            "reader": lambda: penstock.open_reader("s3://bucket/a").read(10),
            "writer": self.write_much,
        }
        for name, call in calls.items():
            with self.subTest(name):
                self.check(call)
        into.extend(b"the export is released")
        self.assertEqual(os.listdir(self.dir), ["file"])

    def test_handler_that_returns_does_not_disturb(self):
        seen = []
        before = signal.signal(signal.SIGUSR1, lambda *_: (seen.append(1), release()))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        S3.objects["bucket/a"] = b"1"

        def release():
            S3.is_hanging = False
            S3.hang.set()

        self.interrupt_once_waiting(signal.SIGUSR1)
        # The request that hung is cut, and tried again.
        self.assertEqual(penstock.get("s3://bucket/a"), b"1")
        self.assertEqual(seen, [1])

    def test_exception_of_a_handler_comes_out(self):
        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        before = signal.signal(signal.SIGUSR1, stop)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        self.check(lambda: penstock.get("s3://bucket/a"), Stop, signal.SIGUSR1)

    def test_other_threads_wait_on(self):
        """Only the main thread hears of signals, as everywhere in Python."""
        codes = []

        def wait():
            try:
                penstock.get("s3://bucket/a", timeout=1.5)
            except penstock.Error as error:
                codes.append(error.code)

        thread = threading.Thread(target=wait)
        thread.start()
        S3.waiting.acquire()
        with self.assertRaises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        thread.join()
        self.assertEqual(codes, ["DEADLINE"])

    def test_memory_is_left_alone_after_the_interrupt(self):
        S3.is_hanging = False
        S3.objects["bucket/big"] = b"n" * 3_000_000
        into = bytearray(b"o" * 3_000_000)
        before = signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertEqual(before[0], 0)

        def stop(*_):
            raise InterruptedError

        old = signal.signal(signal.SIGALRM, stop)
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        for delay_s in (0.001, 0.06):
            signal.setitimer(signal.ITIMER_REAL, delay_s)
            try:
                for _ in range(100):
                    penstock.get_into("s3://bucket/big", into)
            except InterruptedError:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            into[:] = b"o" * len(into)
            time.sleep(0.2)
            self.assertEqual(into.count(b"o"), len(into))

    def test_timeout_ends_a_call(self):
        start = time.monotonic()
        with self.assertRaises(penstock.TimeoutError):
            penstock.get("s3://bucket/a", timeout=0.2)
        with self.assertRaises(TimeoutError):
            penstock.copy("s3://bucket/a", "file://" + self.dir + "/a", timeout=0.2)
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    unittest.main()

"""What the tests of many objects, readers and writers share."""
import contextlib
import ctypes
import functools
import os
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["PST_TEST_SOURCE"], "tests/lib"))

import penstock  # noqa: E402
from faults import FaultServer  # noqa: E402

BUCKET = "kit-bucket"
MIB = 1 << 20


def environment_of(server):
    """The environment in which s3:// means the server."""
    return {
        "AWS_ENDPOINT_URL": "http://" + server.address,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "KITACCESSKEY",
        "AWS_SECRET_ACCESS_KEY": "kit-secret-access-key",
    }


class WithFiles(unittest.TestCase):
    """Each test has a directory of its own."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="penstock-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def uri(self, name):
        return "file://" + self.path(name)

    def make(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.uri(name)

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()


class WithServer(WithFiles):
    """All tests share a server; each begins with empty buckets and no faults."""

    server = None

    @classmethod
    def setUpClass(cls):
        if not WithServer.server:  # one for all: what s3:// means is looked up once
            WithServer.server = FaultServer("s3")
            unittest.addModuleCleanup(WithServer.server.close)
            os.environ.update(environment_of(WithServer.server))

    def setUp(self):
        super().setUp()
        self.server.forget_all()
        self.server.set_faults()
        self.server.forget_log()

    def store_that_asks(self):
        """A Store whose credentials come from a function, so that it has a context of its own."""

        def ask(uri):
            return {
                "access_key_id": "KITACCESSKEY",
                "secret_access_key": "kit-secret-access-key",
            }

        return penstock.Store(f"s3://{BUCKET}/", credentials=ask)

    def s3(self, key, bucket=BUCKET):
        return f"s3://{bucket}/{key}"

    def requests(self, method):
        return [one for one in self.server.log() if one["method"] == method]


def in_child(call):
    """Run it in a fork child, and give back the child's exit code: 0, or 1 for an exception."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(value):
    """Where the bytes of a buffer lie."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(value), ctypes.byref(buffer), 0)
    try:
        return buffer.buf
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


@functools.cache
def pattern(size, seed=1):
    """Bytes in which no two places look alike."""
    words = range(seed << 24, (seed << 24) + size // 4 + 1)
    return b"".join(word.to_bytes(4, "big") for word in words)[:size]


class Interrupted(Exception):
    pass


@contextlib.contextmanager
def interrupt_after(seconds):
    """A signal whose handler raises, as Ctrl-C does."""

    def handler(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wait_until(condition, seconds=10):
    """Wait for what happens in the background; says whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True

"""The exceptions: what they derive from, what they know, and that they travel."""
import asyncio
import builtins
import copy
import errno
import http.server
import multiprocessing
import os
import pickle
import shutil
import socket
import tempfile
import threading
import unittest

import penstock

# name, code, bases beside Error
TABLE = [
    ("CancelledError", "CANCELLED", ()),
    ("InvalidArgumentError", "INVALID", (ValueError,)),
    ("NotFoundError", "NOT_FOUND", (FileNotFoundError,)),
    ("ExistsError", "EXISTS", (FileExistsError,)),
    ("PermissionDeniedError", "DENIED", (PermissionError,)),
    ("UnauthenticatedError", "UNAUTHENTICATED", (PermissionError,)),
    ("UnavailableError", "UNAVAILABLE", (ConnectionError,)),
    ("ThrottledError", "THROTTLED", (penstock.UnavailableError,)),
    ("PreconditionError", "PRECONDITION", ()),
    ("RangeError", "RANGE", (ValueError,)),
    ("UnsupportedOperationError", "UNIMPLEMENTED", (NotImplementedError,)),
    ("TimeoutError", "DEADLINE", (builtins.TimeoutError,)),
    ("DataLossError", "DATA_LOSS", ()),
    ("StoreIOError", "IO", (OSError,)),
    ("NoSpaceError", "NO_SPACE", (penstock.StoreIOError,)),
    ("NoMemoryError", "NO_MEMORY", (MemoryError,)),
    ("InternalError", "INTERNAL", ()),
    ("ChangedError", "CHANGED", ()),
    ("OverBudgetError", "OVER_BUDGET", (MemoryError,)),
    ("ForkedError", "FORKED", ()),
    ("BadPluginError", "BAD_PLUGIN", ()),
    ("NoSchemeError", "NO_SCHEME", (ValueError,)),
    ("LengthMismatchError", "RANGE", (ValueError,)),
]
ATTRIBUTES = ("code", "uri", "http_status", "request_id", "attempt", "max_attempts",
              "provider_code", "endpoint", "retryable", "maybe_applied")


class OwnError(penstock.Error):
    pass


class OwnNotFoundError(penstock.NotFoundError):
    pass


class Classes(unittest.TestCase):
    def test_root_is_a_runtime_error(self):
        self.assertTrue(issubclass(penstock.Error, RuntimeError))
        self.assertFalse(issubclass(penstock.Error, OSError))

    def test_each_has_its_code_and_its_bases(self):
        for name, code, bases in TABLE:
            with self.subTest(name):
                kind = getattr(penstock, name)
                self.assertTrue(issubclass(kind, penstock.Error))
                for base in bases:
                    self.assertTrue(issubclass(kind, base))
                self.assertEqual(kind.code, code)
                self.assertEqual((kind.__module__, kind.__name__), ("penstock", name))
                self.assertTrue(kind.__doc__)

    def test_table_is_complete(self):
        found = {name for name in penstock.__all__
                 if isinstance(getattr(penstock, name), type)
                 and issubclass(getattr(penstock, name), penstock.Error)}
        self.assertEqual(found, {name for name, _, _ in TABLE} | {"Error", "ObjectNotFoundError"})

    def test_aliases(self):
        self.assertIs(penstock.ObjectNotFoundError, penstock.NotFoundError)
        self.assertTrue(issubclass(penstock.TimeoutError, asyncio.TimeoutError))

    def test_every_attribute_has_a_default(self):
        for name, code, _ in TABLE:
            error = getattr(penstock, name)("text")
            self.assertEqual(str(error), "text")
            for attribute in ATTRIBUTES:
                self.assertTrue(hasattr(error, attribute), attribute)
            self.assertEqual(error.code, code)
            self.assertIs(error.retryable, False)
            self.assertIs(error.uri, None)
        self.assertIs(penstock.LengthMismatchError("text").expected, None)

    def test_pickle_and_copy_keep_type_text_and_attributes(self):
        ways = [lambda error, n=n: pickle.loads(pickle.dumps(error, n))
                for n in range(pickle.HIGHEST_PROTOCOL + 1)]
        for name, _, _ in TABLE:
            error = getattr(penstock, name)("text")
            for number, attribute in enumerate(ATTRIBUTES):
                setattr(error, attribute, f"{attribute} {number}")
            error.expected, error.actual = 4, 10
            members = ()
            if isinstance(error, OSError):
                members = ("errno", "strerror", "filename", "filename2")
                error.errno, error.strerror = errno.EIO, "so it is"
                error.filename, error.filename2 = "/a", b"/b"
            for way in [*ways, copy.copy, copy.deepcopy]:
                again = way(error)
                self.assertIs(type(again), type(error))
                self.assertEqual((again.args, str(again), vars(again)),
                                 (("text",), str(error), vars(error)))
                self.assertEqual([getattr(again, member) for member in members],
                                 [getattr(error, member) for member in members])


    def test_attributes_of_a_subclass_travel(self):
        for kind in (OwnError, OwnNotFoundError):
            error = kind("text")
            error.uri, error.label = "file:///a", "mine"
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(again), again.args, vars(again)),
                             (kind, ("text",), {"uri": "file:///a", "label": "mine"}))


class Server:
    """Answers every request the same way: with one of S3's errors, or not at all."""

    def __init__(self, status, code, **headers):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if status == 0:
                    ending.wait()
                    self.close_connection = True
                    return
                body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
                self.send_response(status)
                for name, value in {"x-amz-request-id": "REQ7", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_DELETE = answer

            def log_message(self, *unused):
                pass

        self.ending = ending = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()


def store_at(address):
    return penstock.Store("s3://bucket/", {"endpoint": f"http://{address}", "region": "us-east-1",
                                           "access_key_id": "id", "secret_access_key": "secret"})


class OfAStore(unittest.TestCase):
    """What a server said is in the attributes."""

    def error_of(self, status, code, call=lambda store: store.get("key", timeout=10), **headers):
        with Server(status, code, **headers) as server:
            with self.assertRaises(penstock.Error) as caught:
                call(store_at(server.address))
            self.assertEqual(caught.exception.endpoint, server.address)
        return caught.exception

    def test_status_and_code_choose_the_class(self):
        for status, code, kind in ((404, "NoSuchKey", penstock.NotFoundError),
                                   (404, "NoSuchBucket", FileNotFoundError),
                                   (403, "AccessDenied", penstock.PermissionDeniedError),
                                   (403, "AccessDenied", PermissionError),
                                   (403, "InvalidAccessKeyId", penstock.UnauthenticatedError),
                                   (412, "PreconditionFailed", penstock.PreconditionError)):
            with self.subTest(code):
                error = self.error_of(status, code)
                self.assertIsInstance(error, kind)
                self.assertEqual((error.http_status, error.provider_code, error.request_id),
                                 (status, code, "REQ7"))
                self.assertEqual((error.attempt, error.retryable), (1, False))
                self.assertGreater(error.max_attempts, 1)
                self.assertIn("bucket/key", error.uri)
                self.assertIn(code, str(error))

    def test_secret_is_in_no_attribute(self):
        error = self.error_of(403, "SignatureDoesNotMatch")
        self.assertNotIn("secret", repr(error) + repr(vars(error)))

    def test_write_tells_the_same(self):
        error = self.error_of(403, "AccessDenied",
                              lambda store: store.put("key", b"data", timeout=10))
        self.assertIsInstance(error, PermissionError)
        self.assertEqual((error.http_status, error.errno), (403, errno.EACCES))

    def test_server_that_does_not_answer_is_a_timeout(self):
        with Server(0, None) as server:
            with self.assertRaises(builtins.TimeoutError) as caught:
                store_at(server.address).get("key", timeout=0.3)
        self.assertEqual((caught.exception.code, caught.exception.errno),
                         ("DEADLINE", errno.ETIMEDOUT))

    def test_throttling_is_retried_until_the_timeout(self):
        with Server(503, "SlowDown") as server:
            with self.assertRaises(penstock.Error) as caught:
                store_at(server.address).get("key", timeout=1)
        error = caught.exception
        self.assertIsInstance(error, (penstock.ThrottledError, penstock.TimeoutError))
        self.assertIn("SlowDown", str(error))

    def test_nobody_listens(self):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            address = f"127.0.0.1:{reserved.getsockname()[1]}"
            with self.assertRaises((ConnectionError, builtins.TimeoutError)) as caught:
                store_at(address).get("key", timeout=1)
        self.assertIn(address, str(caught.exception))


class OfFiles(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def test_missing_file(self):
        uri = f"file://{self.dir}/absent"
        for call in (penstock.get, penstock.stat, lambda u: penstock.get_range(u, 0, 1),
                     lambda u: penstock.copy(u, u + "2")):
            with self.assertRaises(FileNotFoundError) as caught:
                call(uri)
            error = caught.exception
            self.assertIsInstance(error, penstock.NotFoundError)
            self.assertEqual((error.code, error.errno, error.uri),
                             ("NOT_FOUND", errno.ENOENT, uri))
            self.assertEqual((error.http_status, error.request_id, error.provider_code),
                             (None, None, None))
            self.assertIn("absent", str(error))
            self.assertNotIn("\n", str(error))

    def test_error_crosses_processes_as_it_is(self):
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.get(f"file://{self.dir}/absent")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            with self.assertRaises(penstock.NotFoundError) as of_worker:
                pool.apply(penstock.get, (f"file://{self.dir}/absent",))
        for again in (pickle.loads(pickle.dumps(caught.exception)), of_worker.exception):
            self.assertEqual((type(again), again.errno, str(again), vars(again)),
                             (penstock.NotFoundError, errno.ENOENT, str(caught.exception),
                              vars(caught.exception)))

    def test_no_such_scheme_names_those_there_are(self):
        with self.assertRaises(penstock.NoSchemeError) as caught:
            penstock.get("nowhere://bucket/key")
        self.assertRegex(str(caught.exception), "file.*s3|s3.*file")
        self.assertIsInstance(caught.exception, ValueError)

    def test_process_goes_on_after_every_one(self):
        path = os.path.join(self.dir, "x")
        for _ in range(100):
            with self.assertRaises(penstock.NotFoundError):
                penstock.get(f"file://{path}")
            with self.assertRaises(ValueError):
                penstock.get("no uri")
            with self.assertRaises(TypeError):
                penstock.get(7)
        penstock.put_bytes(f"file://{path}", b"data")
        self.assertEqual(penstock.get(f"file://{path}"), b"data")


if __name__ == "__main__":
    unittest.main()

"""The exceptions: what they derive from, what they know, and that they travel."""
import asyncio
import builtins
import pickle
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

    def test_pickle_keeps_type_text_and_attributes(self):
        for name, _, _ in TABLE:
            error = getattr(penstock, name)("text")
            error.uri, error.http_status = "s3://bucket/key", 503
            again = pickle.loads(pickle.dumps(error))
            self.assertIs(type(again), type(error))
            self.assertEqual((str(again), again.uri, again.http_status, again.code),
                             ("text", "s3://bucket/key", 503, error.code))


if __name__ == "__main__":
    unittest.main()

"""Objects that are longer than a request of the store may be: they go in parts, by every call that writes."""
import asyncio
import os
import unittest

os.environ["PENSTOCK_PLUGIN_PATH"] = os.path.join(
    os.environ["PST_TEST_BINARY"], "tests/conformance/plugins")

import penstock  # noqa: E402
from streams import pattern  # noqa: E402

MOST = 100_000


class LongPuts(unittest.TestCase):
    def setUp(self):
        """A store in memory that refuses longer requests."""
        self.store = penstock.Store(f"mem://{self.id()}/", {"part_max": MOST})
        self.addCleanup(self.store.close)

    def assert_there(self, items):
        self.assertEqual([(key, bytes(view)) for key, view in
                          self.store.get_many([key for key, _ in items])], items)

    def items(self):
        return [("a", b"short"), ("b", pattern(MOST + 1)), ("c", pattern(MOST)),
                ("d", pattern(10 * MOST + 7, 2)), ("e", b"")]

    def test_the_store_refuses_what_is_too_long_for_it(self):
        self.assertEqual(self.store.describe()["part_max"], MOST)

    def test_put_many(self):
        items = self.items()
        self.assertIsNone(self.store.put_many(items))
        self.assert_there(items)
        self.assertEqual(self.store.put_many(items, 1, return_exceptions=True), [None] * 5)
        self.assert_there(items)

    def test_put_many_of_coroutines(self):
        items = self.items()
        self.assertIsNone(asyncio.run(self.store.put_many_async(items)))
        self.assert_there(items)

    def test_one_alone(self):
        data = pattern(3 * MOST)
        self.store.put("a", data)
        asyncio.run(self.store.put_async("b", data))
        self.assert_there([("a", data), ("b", data)])

    def test_one_that_fails_is_named(self):
        long = pattern(2 * MOST)
        key = "x" * 5000
        with self.assertRaises(penstock.InvalidArgumentError) as caught:
            self.store.put_many([("a", b"short"), (key, long)])
        self.assertIn(key, caught.exception.uri)
        results = self.store.put_many([(key, long), ("b", long)], return_exceptions=True)
        self.assertIsInstance(results[0], penstock.InvalidArgumentError)
        self.assertIsNone(results[1])
        self.assert_there([("a", b"short"), ("b", long)])


if __name__ == "__main__":
    unittest.main()

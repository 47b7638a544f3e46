"""Listings: what they show, how they end, and that they never come short without a word."""
import os
import pickle
import shutil
import tempfile
import threading
import unittest

import fake_s3
import penstock


class Files(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.store = penstock.Store("file:///", {"root": self.dir})
        for key in ("a", "b/c", "b/d/e", "bb", "z"):
            self.store.put(key, key.encode())

    def keys(self, *arguments, **named):
        return [entry.key for entry in self.store.list(*arguments, **named)]

    def test_all_keys_come_in_byte_order(self):
        self.assertEqual(self.keys(), ["a", "b/c", "b/d/e", "bb", "z"])

    def test_prefix_is_bytes(self):
        self.assertEqual(self.keys("b"), ["b/c", "b/d/e", "bb"])
        self.assertEqual(self.keys(prefix="b/"), ["b/c", "b/d/e"])
        self.assertEqual(self.keys("nothing"), [])
        self.assertEqual(self.keys(b"b/"), ["b/c", "b/d/e"])

    def test_delimiter_gives_one_level(self):
        for named in ({"recursive": False}, {"delimiter": "/"}):
            entries = list(self.store.list(**named))
            self.assertEqual([(entry.key, entry.kind) for entry in entries],
                             [("a", "object"), ("b/", "prefix"), ("bb", "object"), ("z", "object")])

    def test_start_after_skips(self):
        self.assertEqual(self.keys(start_after="b/d/e"), ["bb", "z"])

    def test_empty_directories_are_shown_when_asked_for(self):
        os.makedirs(os.path.join(self.dir, "empty/inner"))
        self.assertEqual(self.keys(), ["a", "b/c", "b/d/e", "bb", "z"])
        self.assertIn("empty/inner/", self.keys(empty_dirs=True))

    def test_small_pages_give_the_same(self):
        self.assertEqual(self.keys(page_entries=1), self.keys())
        self.assertEqual(sorted(self.keys(ordered=False)), self.keys())

    def test_entry_tells_what_is_known(self):
        entry = next(self.store.list("bb"))
        self.assertEqual((entry.key, entry.size, entry.kind), ("bb", 2, "object"))
        self.assertEqual(entry.mtime_ns, os.stat(os.path.join(self.dir, "bb")).st_mtime_ns)
        self.assertEqual(entry.etag, self.store.stat("bb")["etag"])
        self.assertIsNone(entry.version)
        key, size, *_ = entry
        self.assertEqual((key, size), ("bb", 2))
        self.assertEqual(pickle.loads(pickle.dumps(entry)), entry)
        self.assertIn("key='bb'", repr(entry))

    def test_iterator_ends_for_good(self):
        listing = self.store.list("a")
        self.assertIs(iter(listing), listing)
        self.assertEqual(next(listing).key, "a")
        for _ in range(3):
            with self.assertRaises(StopIteration):
                next(listing)

    def test_listing_outlives_names_of_its_store(self):
        listing = self.store.list(page_entries=2)
        next(listing)
        del self.store
        self.assertEqual(len(list(listing)), 4)

    def test_wrong_arguments_are_refused(self):
        for kind, arguments, named in ((TypeError, (1,), {}), (TypeError, (), {"nothing": 1}),
                                       (ValueError, (), {"delimiter": ":"}),
                                       (TypeError, (), {"delimiter": 1}),
                                       (ValueError, (), {"page_entries": 0}),
                                       (ValueError, (), {"page_entries": -1}),
                                       (ValueError, (), {"timeout": 0})):
            with self.subTest(arguments=arguments, named=named), self.assertRaises(kind):
                self.store.list(*arguments, **named)
        with self.assertRaises(TypeError):
            penstock.Listing()

    def test_versions_are_refused_where_there_are_none(self):
        with self.assertRaises(penstock.UnsupportedOperationError):
            list(self.store.list(versions=True))

    def test_by_uri_the_same_with_whole_keys(self):
        entries = list(penstock.iterate("file://" + self.dir + "/b/"))
        self.assertEqual([entry.key for entry in entries],
                         [self.dir[1:] + "/b/c", self.dir[1:] + "/b/d/e"])


class Buckets(unittest.TestCase):
    def setUp(self):
        self.s3 = fake_s3.FakeS3()
        self.addCleanup(self.s3.close)
        self.store = penstock.Store("s3://bucket/", self.s3.options())

    def test_pages_are_fetched_to_the_end(self):
        names = [f"{i:05d}" for i in range(2500)]
        for name in names:
            self.s3.objects["bucket/" + name] = b"x"
        self.assertEqual([entry.key for entry in self.store.list()], names)
        self.assertEqual(len(self.s3.requests), 3)

    def test_next_page_is_not_fetched_before_it_is_needed(self):
        for i in range(2500):
            self.s3.objects[f"bucket/{i:05d}"] = b"x"
        listing = self.store.list()
        for _ in range(1000):
            next(listing)
        self.assertEqual(len(self.s3.requests), 1)

    def test_missing_bucket_is_an_error_each_time(self):
        store = penstock.Store("s3://none/", self.s3.options())
        listing = store.list()
        for _ in range(2):
            with self.assertRaises(penstock.NotFoundError):
                next(listing)

    def test_listing_that_breaks_is_an_error_and_no_short_list(self):
        for i in range(1500):
            self.s3.objects[f"bucket/{i:05d}"] = b"x"
        listing = self.store.list()
        for _ in range(1000):
            next(listing)
        self.s3.buckets.discard("bucket")
        with self.assertRaises(penstock.NotFoundError):
            next(listing)
        self.s3.buckets.add("bucket")
        self.assertEqual(len(list(listing)), 500)

    def test_odd_keys_come_through(self):
        for key in ("a b", "a+b", "a&b<c>", "é", "x%41", "q?r#s"):
            self.s3.objects["bucket/" + key] = b"x"
            self.assertIn(key, [entry.key for entry in self.store.list()])
            self.assertEqual(self.store.get(key), b"x")

    def test_containers_are_listed(self):
        self.s3.buckets.add("other")
        self.assertEqual(sorted(entry.key.rstrip("/") for entry in self.store.list_containers()),
                         ["bucket", "other"])

    def test_page_in_another_thread_is_left_alone(self):
        self.s3.is_hanging = True
        listing = self.store.list(timeout=2)
        failed = []

        def wait():
            try:
                next(listing)
            except penstock.Error as error:
                failed.append(error.code)

        thread = threading.Thread(target=wait)
        thread.start()
        self.s3.waiting.acquire()
        with self.assertRaises(ValueError):
            next(listing)
        thread.join()
        self.assertEqual(failed, ["DEADLINE"])


if __name__ == "__main__":
    unittest.main()

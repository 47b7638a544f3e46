"""penstock.fsspec as fsspec's users meet it, and fsspec's own suite where there is pytest."""
import contextlib
import gc
import importlib.util
import os
import pickle
import shutil
import sys
import tempfile
import unittest
import unittest.mock
import uuid

if importlib.util.find_spec("fsspec") is None:
    print("fsspec is not installed")
    sys.exit(77)

import fsspec

import fake_s3
import penstock
from penstock.fsspec import PenstockFileSystem, PenstockLocalFileSystem, PenstockS3FileSystem

ENDPOINT = os.environ.get("PST_MINIO_ENDPOINT")


@contextlib.contextmanager
def warnings_of_the_interpreter():
    """What it would print of exceptions that nobody can catch."""
    heard = []
    with unittest.mock.patch("sys.unraisablehook", heard.append):
        yield heard
        gc.collect()


class Local(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.fs = fsspec.filesystem("penstock+file")

    def path(self, name):
        return f"{self.root}/{name}"

    def make(self, name, data=b"data"):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)


class OnS3(unittest.TestCase):
    """A bucket on the server of tests/servers/up; credentials are in the environment."""
    options = {"endpoint": ENDPOINT}

    def setUp(self):
        self.fs = fsspec.filesystem("penstock+s3", **self.options)
        self.root = "fsspec-" + uuid.uuid4().hex
        self.fs.mkdir(self.root)
        self.addCleanup(self.fs.rmdir, self.root)
        self.addCleanup(self.fs.rm, self.root, recursive=True)

    def path(self, name):
        return f"{self.root}/{name}"


class LocalFiles(Local):
    def test_urls_and_paths_name_the_same(self):
        path = self.make("a")
        for name in (path, f"penstock+file://{path}", f"file://{path}"):
            self.assertEqual(self.fs.cat_file(name), b"data")
        self.assertEqual(self.fs.unstrip_protocol(path), f"penstock+file://{path}")
        fs, found = fsspec.url_to_fs(f"penstock+file://{path}")
        self.assertIs(fs, self.fs)
        self.assertEqual(found, path)

    def test_any_scheme_by_name(self):
        path = self.make("a")
        fs = PenstockFileSystem("file")
        self.assertEqual(fs.cat_file(path), b"data")
        with self.assertRaises(ValueError):
            PenstockFileSystem()
        with self.assertRaises(penstock.NoSchemeError):
            PenstockFileSystem("nowhere").cat_file("a/b")

    def test_an_unknown_option_is_an_error(self):
        with self.assertRaises(ValueError):
            PenstockLocalFileSystem(fsink="none").cat_file("/etc/hostname")

    def test_open_reads_and_seeks(self):
        path = self.make("a", bytes(range(256)) * 1000)
        with self.fs.open(path) as f:
            self.assertEqual(f.size, 256000)
            self.assertEqual(f.read(3), b"\0\1\2")
            f.seek(-1, os.SEEK_END)
            self.assertEqual(f.read(), b"\xff")

    def test_a_file_appears_when_it_is_closed(self):
        f = self.fs.open(self.path("new"), "wb")
        f.write(b"x" * 100)
        self.assertFalse(self.fs.exists(self.path("new")))
        f.close()
        self.assertEqual(self.fs.cat_file(self.path("new")), b"x" * 100)

    def test_an_exception_leaves_nothing(self):
        with self.assertRaises(KeyError):
            with self.fs.open(self.path("new"), "wb") as f:
                f.write(b"x")
                raise KeyError
        self.assertEqual(os.listdir(self.root), [])

    def test_an_unfinished_file_that_is_dropped_leaves_nothing(self):
        f = self.fs.open(self.path("new"), "wb")
        f.write(b"x")
        del f
        self.assertEqual(os.listdir(self.root), [])

    def test_exclusive_creation(self):
        path = self.make("a")
        with self.assertRaises(FileExistsError):
            with self.fs.open(path, "xb") as f:
                f.write(b"other")
        with self.fs.open(self.path("b"), "xb") as f:
            f.write(b"new")
        self.assertEqual(self.fs.cat([path, self.path("b")]),
                         {path: b"data", self.path("b"): b"new"})

    def test_transactions_publish_together(self):
        with self.fs.transaction:
            for name in "ab":
                with self.fs.open(self.path(name), "wb") as f:
                    f.write(b"1")
            self.assertEqual(self.fs.ls(self.root, detail=False), [])
        self.assertEqual(self.fs.ls(self.root, detail=False), [self.path("a"), self.path("b")])
        with self.assertRaises(KeyError):
            with self.fs.transaction:
                with self.fs.open(self.path("c"), "wb") as f:
                    f.write(b"1")
                raise KeyError
        self.assertFalse(self.fs.exists(self.path("c")))

    def test_text(self):
        with self.fs.open(self.path("t"), "w") as f:
            f.write("one\ntwo\n")
        with self.fs.open(self.path("t"), "r") as f:
            self.assertEqual(list(f), ["one\n", "two\n"])

    def test_text_begins_as_that_of_python_does(self):
        for encoding in ("utf-16", "utf-32", "utf-16-le", "utf-8-sig"):
            for compression in (None, "gzip"):
                with self.subTest(encoding=encoding, compression=compression):
                    with self.fs.open(self.path("t"), "w", encoding=encoding,
                                      compression=compression) as f:
                        f.write("one\n")
                        f.write("two\n")
                    with self.fs.open(self.path("t"), compression=compression) as f:
                        self.assertEqual(f.read(), "one\ntwo\n".encode(encoding))

    def test_text_that_cannot_be_written_to_the_end_is_dropped(self):
        for compression in (None, "gzip"):
            with self.subTest(compression=compression):
                f = self.fs.open(self.path("t"), "w", compression=compression)
                f.write("one\n")
                with unittest.mock.patch.object(type(f.buffer), "write", side_effect=MemoryError), \
                        self.assertRaises(MemoryError):
                    f.close()
                self.assertTrue(f.closed)
                del f
                self.assertEqual(os.listdir(self.root), [])

    def test_text_that_an_exception_or_nobody_ends_leaves_nothing(self):
        with self.assertRaises(KeyError):
            with self.fs.open(self.path("t"), "w") as f:
                f.write("one\n")
                raise KeyError
        f = self.fs.open(self.path("t"), "w", encoding="utf-16")
        f.write("one\n")
        del f
        self.assertEqual(os.listdir(self.root), [])

    def test_compressed_files_appear_when_they_are_closed(self):
        for compression in ("gzip", "bz2", "xz", "infer"):
            path = self.path("t.gz")
            for mode, data in (("wb", b"one"), ("w", "one\n")):
                with self.subTest(compression=compression, mode=mode):
                    with self.fs.open(path, mode, compression=compression) as f:
                        f.write(data)
                        self.assertFalse(self.fs.exists(path))
                    with self.fs.open(path, mode.replace("w", "r"), compression=compression) as f:
                        self.assertEqual(f.read(), data)
                    self.fs.rm(path)
                    with self.assertRaises(KeyError):
                        with self.fs.open(path, mode, compression=compression) as f:
                            f.write(data)
                            raise KeyError
                    f = self.fs.open(path, mode, compression=compression)
                    f.write(data)
                    del f
                    self.assertEqual(os.listdir(self.root), [])

    def test_modes_that_there_are_not_are_refused_and_that_is_all(self):
        path = self.make("a")
        with warnings_of_the_interpreter() as heard:
            for mode in ("ab", "r+b"):
                with self.assertRaises(NotImplementedError):
                    self.fs.open(path, mode)
        self.assertEqual(heard, [])

    def test_an_open_file_is_of_one_version(self):
        path = self.make("a", b"1" * 4_000_000)
        with self.fs.open(path, block_size=1000, cache_type="none") as f:
            self.assertEqual(f.read(2), b"11")
            penstock.put_bytes("file://" + path, b"2" * 4_000_000)
            with self.assertRaises(penstock.ChangedError) as caught:
                f.read(2)
            self.assertEqual(caught.exception.uri, "file://" + path)

    def test_ls_info_find_walk(self):
        for name in ("d/a", "d/b", "d/e/c", "f"):
            self.make(name)
        os.mkdir(self.path("empty"))
        self.assertEqual(self.fs.ls(self.root, detail=False),
                         [self.path(n) for n in ("d", "empty", "f")])
        self.assertEqual(self.fs.ls(self.path("f"), detail=False), [self.path("f")])
        self.assertEqual(self.fs.ls(self.path("empty"), detail=False), [])
        self.assertEqual(self.fs.find(self.root),
                         [self.path(n) for n in ("d/a", "d/b", "d/e/c", "f")])
        self.assertEqual(self.fs.info(self.path("d"))["type"], "directory")
        self.assertEqual(self.fs.info(self.path("empty"))["type"], "directory")
        self.assertEqual(self.fs.info(self.path("f"))["size"], 4)
        self.assertEqual(sorted(self.fs.glob(self.root + "/d/*")),
                         [self.path(n) for n in ("d/a", "d/b", "d/e")])
        self.assertEqual(self.fs.du(self.root), 16)
        for call in (self.fs.info, self.fs.ls, self.fs.cat_file):
            with self.assertRaises(FileNotFoundError):
                call(self.path("missing"))

    def test_ranges(self):
        path = self.make("a", b"0123456789")
        self.assertEqual(self.fs.cat_file(path, 2, 5), b"234")
        self.assertEqual(self.fs.cat_file(path, -3), b"789")
        self.assertEqual(self.fs.cat_file(path, 1, -1), b"12345678")
        self.assertEqual(self.fs.head(path, 2), b"01")
        self.assertEqual(self.fs.tail(path, 2), b"89")
        self.assertEqual(self.fs.cat_ranges([path] * 3, [0, 5, -2], [1, 7, None]),
                         [b"0", b"56", b"89"])
        results = self.fs.cat_ranges([path, self.path("missing")], 0, 1)
        self.assertEqual(results[0], b"0")
        self.assertIsInstance(results[1], FileNotFoundError)

    def test_copy_move_remove(self):
        self.make("d/a")
        self.make("d/e/b")
        self.fs.cp(self.path("d"), self.path("copy"), recursive=True)
        self.assertEqual(self.fs.find(self.path("copy")),
                         [self.path("copy/a"), self.path("copy/e/b")])
        self.fs.mv(self.path("copy/a"), self.path("moved"))
        self.assertEqual(self.fs.cat_file(self.path("moved")), b"data")
        self.assertFalse(self.fs.exists(self.path("copy/a")))
        self.fs.rm(self.path("copy"), recursive=True)
        self.assertEqual(self.fs.ls(self.root, detail=False), [self.path("d"), self.path("moved")])
        with self.assertRaises(FileNotFoundError):
            self.fs.rm(self.path("copy"))

    def test_directories(self):
        self.fs.makedirs(self.path("x/y"))
        self.assertTrue(self.fs.isdir(self.path("x/y")))
        with self.assertRaises(FileExistsError):
            self.fs.mkdir(self.path("x"))
        self.fs.makedirs(self.path("x/y"), exist_ok=True)
        self.fs.rmdir(self.path("x/y"))
        self.assertFalse(self.fs.exists(self.path("x/y")))

    def test_put_and_get_trees(self):
        self.make("local/a")
        self.make("local/e/b")
        self.fs.put(self.path("local"), self.path("there"), recursive=True)
        self.fs.get(self.path("there"), self.path("back"), recursive=True)
        with open(self.path("back/e/b"), "rb") as f:
            self.assertEqual(f.read(), b"data")

    def test_modified_and_checksum(self):
        path = self.make("a")
        self.assertAlmostEqual(self.fs.modified(path).timestamp(), os.stat(path).st_mtime, 3)
        before = self.fs.checksum(path)
        self.assertEqual(before, self.fs.checksum(path))
        self.make("a", b"other")
        self.assertNotEqual(before, self.fs.checksum(path))

    def test_pickles_and_serves_there(self):
        path = self.make("a")
        self.assertEqual(pickle.loads(pickle.dumps(self.fs)).cat_file(path), b"data")

    def test_secrets_do_not_travel(self):
        fs = PenstockS3FileSystem(endpoint="http://127.0.0.1:1", access_key_id="known",
                                  secret_access_key="hidden", session_token="hidden")
        for text in (pickle.dumps(fs), fs.to_json().encode(), repr(fs).encode()):
            self.assertNotIn(b"hidden", text)
        self.assertEqual(pickle.loads(pickle.dumps(fs)).storage_options["access_key_id"], "known")


class Objects(unittest.TestCase):
    """What only stores without directories have."""

    def setUp(self):
        self.s3 = self.enterContext(fake_s3.FakeS3())
        self.fs = PenstockS3FileSystem(**self.s3.options(), skip_instance_cache=True)

    def test_markers_are_directories(self):
        """Empty objects "d/", as consoles and other tools leave them."""
        self.s3.objects.update({f"bucket/{key}": b"" for key in ("d/", "d/a", "d/m/", "d/s/", "e")})
        self.assertEqual(self.fs.find("bucket/d"), ["bucket/d/a"])
        self.assertEqual(self.fs.ls("bucket/d", detail=False),
                         ["bucket/d/a", "bucket/d/m", "bucket/d/s"])
        self.assertTrue(self.fs.isdir("bucket/d/m"))
        self.fs.rm("bucket/d", recursive=True)
        self.assertEqual(set(self.s3.objects), {"bucket/e"})
        self.assertFalse(self.fs.exists("bucket/d"))


def has(*names):
    return all(importlib.util.find_spec(name) for name in names)


if has("pandas", "pyarrow", "dask"):
    class Readers:
        """What reads and writes through fsspec."""
        options = None  # of the store

        def setUp(self):
            super().setUp()
            import pandas
            self.frame = pandas.DataFrame({"a": range(1000), "b": [str(i) for i in range(1000)]})
            self.url = self.fs.unstrip_protocol(self.root) + "/"

        def test_pandas(self):
            import pandas
            more = {"storage_options": self.options}
            self.frame.to_csv(self.url + "t.csv", index=False, **more)
            read = pandas.read_csv(self.url + "t.csv", **more)
            self.assertEqual(list(read["a"]), list(range(1000)))
            self.frame.to_parquet(self.url + "t.parquet", **more)
            read = pandas.read_parquet(self.url + "t.parquet", **more)
            self.assertTrue(self.frame.equals(read))

        def test_pyarrow(self):
            import pyarrow.dataset
            import pyarrow.parquet
            self.frame.to_parquet(self.url + "d/t.parquet", storage_options=self.options)
            table = pyarrow.parquet.read_table(self.path("d/t.parquet"), filesystem=self.fs)
            self.assertEqual(table.num_rows, 1000)
            found = pyarrow.dataset.dataset(self.path("d"), filesystem=self.fs, format="parquet")
            self.assertEqual(found.count_rows(), 1000)

        def test_dask(self):
            import dask.dataframe
            for i in range(3):
                self.frame.to_csv(self.url + f"part-{i}.csv", index=False,
                                  storage_options=self.options)
            frame = dask.dataframe.read_csv(self.url + "part-*.csv", storage_options=self.options)
            self.assertEqual(int(frame["a"].sum().compute(scheduler="threads")), 3 * 499500)
            self.assertEqual(int(frame["a"].sum().compute(scheduler="processes")), 3 * 499500)

    class LocalReaders(Readers, Local):
        pass

    if ENDPOINT:
        class S3Readers(Readers, OnS3):
            options = OnS3.options


def has_suite():
    """fsspec brings its abstract suite since 2023.6; it needs pytest."""
    try:
        return has("pytest", "fsspec.tests.abstract")
    except ModuleNotFoundError:
        return False


if has_suite():
    class FsspecSuite(unittest.TestCase):
        def test_fsspec_suite(self):
            import pytest
            suite = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fsspec_suite.py")
            self.assertEqual(pytest.main(["-q", "-p", "no:cacheprovider", suite]), 0)


if __name__ == "__main__":
    unittest.main()

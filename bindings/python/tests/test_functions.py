"""The functions that take URIs."""
import os
import pathlib
import shutil
import tempfile
import unittest
import unittest.mock

import fake_s3
import penstock

S3 = fake_s3.FakeS3()
unittest.addModuleCleanup(S3.close)
# Before the first use: stores that URIs lie in are opened once.
os.environ.update(S3.environment())


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.base = "file://" + self.dir + "/"
        S3.objects.clear()
        S3.buckets.clear()
        S3.buckets.add("bucket")
        S3.uploads.clear()

    def fill(self, *keys):
        for key in keys:
            penstock.put_bytes(self.base + key, key.encode())

    def files(self, top=None):
        top = top or self.dir
        return sorted(os.path.relpath(os.path.join(directory, name), top)
                      for directory, _, names in os.walk(top) for name in names)


class Objects(Case):
    def test_get_and_put(self):
        for base in (self.base, "s3://bucket/"):
            with self.subTest(base):
                uri = base + "d/a"
                self.assertIsInstance(penstock.put_bytes(uri, b"0123456789"), str)
                self.assertEqual(penstock.get(uri), b"0123456789")
                self.assertEqual(penstock.get(uri=uri), b"0123456789")
                self.assertEqual(penstock.get_range(uri, 2, 3), b"234")
                self.assertEqual(penstock.get_range(uri, 7), b"789")
                self.assertEqual(penstock.get_range(uri, offset=10, length=5), b"")
                self.assertEqual(penstock.get_suffix(uri, 2), b"89")
                self.assertEqual(penstock.get_bytes(uri), b"0123456789")
                self.assertIs(type(penstock.get_bytes(uri)), bytes)
                into = bytearray(4)
                self.assertEqual(penstock.get_into(uri, into, 3), 4)
                self.assertEqual(into, b"3456")
                self.assertEqual(penstock.stat(uri)["size"], 10)
                self.assertTrue(penstock.exists(uri))
                penstock.delete(uri)
                penstock.delete(uri)
                self.assertFalse(penstock.exists(uri))
                with self.assertRaises(penstock.NotFoundError) as caught:
                    penstock.stat(uri)
                self.assertEqual(caught.exception.uri, uri)

    def test_path_objects_are_files(self):
        path = pathlib.Path(self.dir, "a")
        penstock.put_bytes(path, b"1")
        self.assertEqual(path.read_bytes(), b"1")
        self.assertEqual(penstock.get(path), b"1")
        self.assertEqual(penstock.list(path.parent), [path.as_uri()])

    def test_put_with_a_number_arrives_later(self):
        penstock.put(self.base + "a", b"1")
        self.assertEqual(penstock.get(self.base + "a"), b"1")
        with self.assertRaisesRegex(penstock.UnsupportedOperationError, "data generation"):
            penstock.put(self.base, 10, template="x-{}")
        with self.assertRaises(TypeError):
            penstock.put(self.base + "b", True)

    def test_get_object_takes_bucket_and_key(self):
        S3.objects["bucket/a//b"] = b"1"
        self.assertEqual(penstock.get_object("bucket", "a//b"), b"1")

    def test_what_is_no_uri_is_refused(self):
        for kind, uri in ((ValueError, "a/b"), (ValueError, ""), (TypeError, 1), (TypeError, None),
                          (penstock.NoSchemeError, "nowhere://a/b"), (ValueError, "file://host/x"),
                          (ValueError, "s3://bucket/")):
            for call in (penstock.get, penstock.stat, penstock.delete):
                with self.subTest(uri=uri, call=call), self.assertRaises(kind):
                    call(uri)

    def test_get_object_takes_a_name_and_a_key_and_nothing_else(self):
        S3.objects["bucket/\u00e9"] = b"1"
        self.assertEqual(penstock.get_object("bucket", "\u00e9".encode()), b"1")
        S3.requests.clear()
        for kind, bucket, key in ((TypeError, 1, "a"), (TypeError, b"bucket", "a"),
                                  (TypeError, "bucket", 1), (TypeError, "bucket", pathlib.Path("a")),
                                  (ValueError, "", "a"), (ValueError, "bucket/d", "a"),
                                  (ValueError, "s3://bucket", "a"), (ValueError, "bucket", "")):
            with self.subTest(bucket=bucket, key=key), self.assertRaises(kind):
                penstock.get_object(bucket, key)
        self.assertEqual(S3.requests, [])

    def test_refusals_of_the_python_half_name_the_uri(self):
        none = self.dir + "/none"
        for uri, call in (("a/b", lambda: penstock.list("a/b")),
                          ("s3://bucket/", lambda: penstock.delete("s3://bucket", recursive=True)),
                          ("s3://bucket/x", lambda: penstock.download("s3://bucket/x", none)),
                          ("s3://bucket/x", lambda: penstock.list_containers("s3://bucket/x")),
                          ("file://" + none, lambda: penstock.upload(none, "s3://bucket/")),
                          ("s3://bucket/x", lambda: penstock.put("s3://bucket/x", 3))):
            with self.subTest(uri), self.assertRaises(penstock.Error) as caught:
                call()
            self.assertEqual(caught.exception.uri, uri)

    def test_copy_between_any_two(self):
        self.fill("a")
        uris = [self.base + "b", "s3://bucket/a", "s3://other/a", self.base + "c"]
        S3.buckets.add("other")
        source = self.base + "a"
        for uri in uris:
            penstock.copy(source, uri)
            self.assertEqual(penstock.get(uri), b"a")
            source = uri
        self.assertEqual(S3.uploads, {})
        with self.assertRaises(penstock.NotFoundError):
            penstock.copy("s3://bucket/none", self.base + "d")
        self.assertEqual(self.files(), ["a", "b", "c"])

    def test_copy_carries_attributes_and_many_parts(self):
        data = os.urandom(20_000_000)
        penstock.put_bytes(self.base + "big", data, content_type="image/png")
        penstock.copy(self.base + "big", "s3://bucket/big", timeout=60)
        self.assertEqual(S3.objects["bucket/big"], data)
        penstock.copy("s3://bucket/big", self.base + "again")
        self.assertEqual(penstock.get(self.base + "again"), data)
        self.fill("small")
        penstock.put_bytes(self.base + "typed", b"x", content_type="text/plain")
        penstock.copy(self.base + "typed", "s3://bucket/typed")
        self.assertEqual(S3.types["bucket/typed"], "text/plain")

    def test_copy_keeps_conditions_through_memory(self):
        self.fill("a")
        S3.objects["bucket/there"] = b"old"
        with self.assertRaises(penstock.Error):
            penstock.copy(self.base + "a", "s3://bucket/there", create_only=True)
        with self.assertRaises(penstock.PreconditionError):
            penstock.copy(self.base + "a", "s3://bucket/new", from_if_match='"other"')
        self.assertEqual(S3.objects, {"bucket/there": b"old"})

    def test_rename_needs_one_store(self):
        self.fill("a")
        penstock.rename(self.base + "a", self.base + "b")
        self.assertEqual(self.files(), ["b"])
        with self.assertRaises(ValueError):
            penstock.rename(self.base + "b", "s3://bucket/b")

    def test_presign_gives_a_url(self):
        url = penstock.presign("s3://bucket/a b", expires_s=60)
        self.assertTrue(url.startswith(S3.endpoint + "/bucket/a%20b?"))
        self.assertIn("X-Amz-Expires=60", url)
        self.assertNotEqual(penstock.presign("s3://bucket/a", "PUT"), penstock.presign("s3://bucket/a"))
        with self.assertRaises(ValueError):
            penstock.presign("s3://bucket/a", expires_s=-1)
        with self.assertRaises(penstock.UnsupportedOperationError):
            penstock.presign(self.base + "a")

    def test_describe_tells_of_the_store(self):
        self.assertEqual(penstock.describe("s3://bucket/x")["authority"], "bucket")


class Listing(Case):
    def test_directory_with_and_without_its_slash(self):
        self.fill("d/a", "d/s/b", "d2/x")
        for uri in (self.base + "d", self.base + "d/"):
            self.assertEqual(penstock.list(uri), [self.base + "d/a", self.base + "d/s/"])
            self.assertEqual(penstock.list(uri, recursive=True),
                             [self.base + "d/a", self.base + "d/s/b"])

    def test_object_lists_itself(self):
        self.fill("d/a")
        self.assertEqual(penstock.list(self.base + "d/a"), [self.base + "d/a"])
        self.assertEqual(penstock.list(self.base + "d/a", pattern="^a$"), [self.base + "d/a"])
        self.assertEqual(penstock.list(self.base + "none"), [])

    def test_pattern_looks_at_what_comes_after_the_directory(self):
        self.fill("d/a.txt", "d/b.bin", "d/s/a.txt")
        self.assertEqual(penstock.list(self.base + "d", True, r"^a.*\.txt$"), [self.base + "d/a.txt"])
        self.assertEqual(penstock.list(self.base + "d", recursive=True, pattern=r"\.txt$"),
                         [self.base + "d/a.txt", self.base + "d/s/a.txt"])
        S3.requests.clear()
        for kind, pattern in ((ValueError, "("), (TypeError, b"a"), (TypeError, 1)):
            with self.assertRaises(kind):
                penstock.list("s3://bucket/", pattern=pattern)
        self.assertEqual(S3.requests, [])

    def test_a_bucket(self):
        S3.objects.update({"bucket/a": b"", "bucket/d/b": b""})
        self.assertEqual(penstock.list("s3://bucket"), ["s3://bucket/a", "s3://bucket/d/"])
        self.assertEqual(penstock.list("s3://bucket/", True), ["s3://bucket/a", "s3://bucket/d/b"])
        with self.assertRaises(penstock.NotFoundError):
            penstock.list("s3://missing/")

    def test_buckets(self):
        self.assertEqual(penstock.list_containers("s3://"),
                         [{"name": "bucket", "uri": "s3://bucket/", "creation_date": unittest.mock.ANY}])


class Deleting(Case):
    def test_directory_needs_recursive(self):
        self.fill("d/a")
        with self.assertRaises(penstock.InvalidArgumentError):
            penstock.delete(self.base + "d")
        self.assertEqual(self.files(), ["d/a"])

    def test_recursive_never_touches_a_neighbour(self):
        self.fill("foo/a", "foo/s/b", "foobar", "foo2/a")
        os.makedirs(os.path.join(self.dir, "foo/empty/inner"))
        penstock.delete(self.base + "foo", recursive=True)
        self.assertEqual(sorted(os.listdir(self.dir)), ["foo2", "foobar"])
        penstock.delete(self.base + "foo", recursive=True)
        penstock.delete(self.base + "foobar", recursive=True)
        self.assertEqual(os.listdir(self.dir), ["foo2"])

    def test_recursive_in_a_bucket(self):
        S3.objects.update({f"bucket/{key}": b"" for key in ("foo", "foo/a", "foo/b/c", "foobar")})
        penstock.delete("s3://bucket/foo", recursive=True)
        self.assertEqual(set(S3.objects), {"bucket/foobar"})

    def test_whole_store_needs_a_word(self):
        S3.objects.update({"bucket/a": b"", "bucket/b/c": b""})
        with self.assertRaises(penstock.InvalidArgumentError):
            penstock.delete("s3://bucket/", recursive=True)
        self.assertEqual(len(S3.objects), 2)
        penstock.delete("s3://bucket/", recursive=True, whole_store=True)
        self.assertEqual(S3.objects, {})

    def test_conditions_are_of_one_object(self):
        with self.assertRaises(ValueError):
            penstock.delete(self.base + "a", recursive=True, if_match="x")


class Containers(Case):
    def test_mkdir_makes_all_of_it_and_may_be_repeated(self):
        penstock.mkdir(self.base + "a/b/c")
        penstock.mkdir(self.base + "a/b/c/")
        self.assertTrue(os.path.isdir(os.path.join(self.dir, "a/b/c")))
        self.fill("file")
        with self.assertRaises(penstock.ExistsError):
            penstock.mkdir(self.base + "file")
        S3.requests.clear()
        penstock.mkdir("s3://bucket/a/b")
        self.assertEqual(S3.requests, [])

    def test_buckets_by_name_and_by_uri(self):
        penstock.create_bucket("new")
        penstock.create_bucket("s3://newer/")
        self.assertEqual(S3.buckets, {"bucket", "new", "newer"})
        penstock.delete_bucket("new")
        penstock.delete_bucket("s3://newer")
        self.assertEqual(S3.buckets, {"bucket"})
        S3.objects["bucket/a"] = b""
        with self.assertRaises(penstock.PreconditionError):
            penstock.delete_bucket("bucket")
        for call in (penstock.create_bucket, penstock.delete_bucket):
            with self.assertRaisesRegex(TypeError, "must be str"):
                call(1)


class Files(Case):
    def make(self, *names):
        for name in names:
            path = os.path.join(self.dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(name)

    def test_upload_patterns_and_directories(self):
        self.make("x/a.txt", "x/b.txt", "x/c.bin", "tree/1", "tree/s/2")
        n = penstock.upload([self.dir + "/x/*.txt", self.dir + "/tree"], "s3://bucket/to")
        self.assertEqual(n, 4)
        self.assertEqual(sorted(S3.objects), ["bucket/to/a.txt", "bucket/to/b.txt",
                                              "bucket/to/tree/1", "bucket/to/tree/s/2"])
        self.assertEqual(S3.objects["bucket/to/tree/s/2"], b"tree/s/2")

    def test_upload_refuses_two_files_for_one_key(self):
        self.make("x/a", "y/a")
        with self.assertRaisesRegex(penstock.InvalidArgumentError, "both"):
            penstock.upload([self.dir + "/x/a", self.dir + "/y/a"], "s3://bucket/")
        with self.assertRaises(penstock.NotFoundError):
            penstock.upload([self.dir + "/x/a", self.dir + "/none*"], "s3://bucket/")
        self.assertEqual(S3.objects, {})

    def test_upload_follows_links_to_directories_but_never_in_a_circle(self):
        self.make("tree/a", "other/s/b")
        os.symlink(self.dir + "/other", self.dir + "/tree/link")
        self.assertEqual(penstock.upload(self.dir + "/tree", "s3://bucket/"), 2)
        self.assertEqual(sorted(S3.objects), ["bucket/tree/a", "bucket/tree/link/s/b"])
        os.symlink("..", self.dir + "/other/s/up")
        S3.requests.clear()
        with self.assertRaisesRegex(penstock.InvalidArgumentError, "other/s/up|link/s/up"):
            penstock.upload(self.dir + "/tree", "s3://bucket/")
        self.assertEqual(S3.requests, [])

    def test_upload_of_a_directory_that_cannot_be_read_fails(self):
        """Here one whose name is longer than the system takes; root may read all others."""
        at = os.open(self.dir, os.O_RDONLY)
        for _ in range(25):
            os.mkdir("d" * 200, dir_fd=at)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)
        with self.assertRaises(OSError):
            penstock.upload(self.dir + "/" + "d" * 200, "s3://bucket/")
        self.assertEqual(S3.objects, {})

    def test_failure_of_the_target_names_the_target(self):
        self.make("a")
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.upload(self.dir + "/a", "s3://missing/d")
        self.assertEqual(caught.exception.uri, "s3://missing/d/a")
        S3.objects["bucket/a"] = b""
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.copy("s3://bucket/a", "s3://missing/b")
        self.assertEqual(caught.exception.uri, "s3://missing/b")
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.copy("s3://bucket/none", "s3://bucket/b")
        self.assertEqual(caught.exception.uri, "s3://bucket/none")
        os.symlink("none", self.dir + "/dangling")
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.upload(self.dir + "/dangling", "s3://bucket/")
        self.assertEqual(caught.exception.uri, f"file://{self.dir}/dangling")

    def test_upload_can_make_the_bucket(self):
        self.make("a")
        penstock.upload(self.dir + "/a", "s3://made/", create_bucket=True)
        penstock.upload(self.dir + "/a", "s3://made/", create_bucket=True)
        self.assertEqual(S3.objects, {"made/a": b"a"})

    def test_download_gives_the_same_tree(self):
        S3.objects.update({f"bucket/{key}": key.encode() for key in ("d/a", "d/s/b", "d/s/t/c", "dd")})
        told = []
        n = penstock.download("s3://bucket/d", self.dir + "/out",
                              progress=lambda n_objects, n_bytes: told.append((n_objects, n_bytes)))
        self.assertEqual(n, 3)
        self.assertEqual(self.files(self.dir + "/out"), ["a", "s/b", "s/t/c"])
        with open(self.dir + "/out/s/t/c", "rb") as f:
            self.assertEqual(f.read(), b"d/s/t/c")
        self.assertEqual(told[-1], (3, 15))
        self.assertEqual(penstock.download("s3://bucket/d/", self.dir + "/flat", recursive=False), 1)
        self.assertEqual(self.files(self.dir + "/flat"), ["a"])
        self.assertEqual(penstock.download("s3://bucket/dd", self.dir + "/one"), 1)
        self.assertEqual(self.files(self.dir + "/one"), ["dd"])
        with self.assertRaises(penstock.NotFoundError):
            penstock.download("s3://bucket/none", self.dir + "/none")
        self.assertFalse(os.path.exists(self.dir + "/none"))

    def test_download_makes_directories_of_their_markers(self):
        """Empty objects "d/", as consoles and other tools leave them."""
        S3.objects.update({f"bucket/{key}": b"" for key in ("d/", "d/empty/", "d/s/", "d/s/a")})
        self.assertEqual(penstock.download("s3://bucket/d", self.dir + "/out"), 1)
        self.assertEqual(self.files(self.dir + "/out"), ["s/a"])
        self.assertEqual(os.listdir(self.dir + "/out/empty"), [])
        self.assertEqual(penstock.download("s3://bucket/d", self.dir + "/out"), 1)
        self.assertEqual(penstock.download("s3://bucket/d/empty/", self.dir + "/none"), 0)
        self.assertEqual(os.listdir(self.dir + "/none"), [])
        for key, data in (("d/full/", b"1"), ("d/../", b""), ("d//", b""), ("d/s/a/", b"")):
            S3.objects["bucket/" + key] = data
            with self.subTest(key), self.assertRaises(penstock.InvalidArgumentError):
                penstock.download("s3://bucket/d", self.dir + "/bad")
            del S3.objects["bucket/" + key]
        self.assertFalse(os.path.exists(self.dir + "/bad"))

    def test_download_never_leaves_its_directory(self):
        for keys in (["../out"], ["a/../../out"], ["a//b"], ["./a"], ["a", "a/b"]):
            S3.objects.clear()
            S3.objects.update({"bucket/d/" + key: b"" for key in ["good", *keys]})
            with self.subTest(keys=keys), self.assertRaises(penstock.InvalidArgumentError):
                penstock.download("s3://bucket/d/", self.dir + "/out")
            self.assertEqual(self.files(), [])

    def test_download_does_not_follow_a_link_out(self):
        outside = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, outside)
        os.mkdir(self.dir + "/out")
        os.symlink(outside, self.dir + "/out/link")
        for key in ("bucket/d/link/a", "bucket/d/link/marker/"):
            S3.objects = {key: b"" if key.endswith("/") else b"1"}
            with self.subTest(key), self.assertRaises(penstock.Error):
                penstock.download("s3://bucket/d/", self.dir + "/out")
            self.assertEqual(os.listdir(outside), [])

    def test_progress_true_shows_a_bar_where_there_is_tqdm(self):
        self.make("x/a", "x/b")
        bars = []

        class Bar:
            def __init__(self, total, unit):
                self.total, self.n, self.is_closed = total, 0, False
                bars.append(self)

            def update(self, n):
                self.n += n

            def close(self):
                self.is_closed = True

        with unittest.mock.patch.dict("sys.modules", tqdm=unittest.mock.Mock(tqdm=Bar)):
            penstock.upload(self.dir + "/x", "s3://bucket/", progress=True)
        self.assertEqual([(bar.total, bar.n, bar.is_closed) for bar in bars], [(2, 2, True)])
        with unittest.mock.patch.dict("sys.modules", tqdm=None):
            self.assertEqual(penstock.upload(self.dir + "/x", "s3://bucket/", progress=True), 2)

    def test_failure_stops_the_rest_and_is_named(self):
        self.make(*[f"x/{i}" for i in range(50)])
        with self.assertRaises(penstock.NotFoundError):
            penstock.upload([self.dir + "/x"], "s3://missing/", max_in_flight=2)
        with self.assertRaises(ZeroDivisionError):
            penstock.upload([self.dir + "/x"], "s3://bucket/", progress=lambda *_: 1 // 0)
        with self.assertRaises(ValueError):
            penstock.upload([self.dir + "/x"], "s3://bucket/", max_in_flight=0)
        with self.assertRaises(TypeError):
            penstock.upload([self.dir + "/x"], "s3://bucket/", progress=1)
        self.assertEqual(S3.uploads, {})


if __name__ == "__main__":
    unittest.main()

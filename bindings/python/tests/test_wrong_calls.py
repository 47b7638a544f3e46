"""Wrong calls: each gives the exception that is documented, and the process goes on."""
import asyncio
import os
import shutil
import tempfile
import unittest

import fake_s3
import penstock

S3 = fake_s3.FakeS3()
unittest.addModuleCleanup(S3.close)
os.environ.update(S3.environment())
S3.objects["bucket/a"] = b"0123456789"

P = penstock
TYPE, VALUE = TypeError, ValueError
INVALID = penstock.InvalidArgumentError
UNSUPPORTED = penstock.UnsupportedOperationError
URI = "s3://bucket/a"


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.file = f"file://{self.dir}/file"
        penstock.put_bytes(self.file, b"0123456789")

    def check(self, rows):
        for expected, call in rows:
            with self.subTest(line=call.__code__.co_firstlineno):
                with self.assertRaises(expected) as caught:
                    call()
                if expected in (TYPE, VALUE):
                    self.assertNotIsInstance(caught.exception, penstock.Error)
                else:
                    self.assertTrue(caught.exception.code)
                self.assertTrue(str(caught.exception))
            self.assertEqual(penstock.get(self.file), b"0123456789")
            self.assertEqual(penstock.get(URI), b"0123456789")


class Table(Case):
    def test_arguments(self):
        self.check([
            (TYPE, lambda: P.get()),
            (TYPE, lambda: P.get(URI, 1)),
            (TYPE, lambda: P.get(1)),
            (TYPE, lambda: P.get(None)),
            (TYPE, lambda: P.get([URI])),
            (TYPE, lambda: P.get(URI, timeout="1")),
            (TYPE, lambda: P.get(URI, nothing=1)),
            (VALUE, lambda: P.get(URI, timeout=0)),
            (VALUE, lambda: P.get(URI, timeout=float("nan"))),
            (VALUE, lambda: P.get(URI, decode="gzip")),
            (TYPE, lambda: P.get_range(URI)),
            (TYPE, lambda: P.get_range(URI, 1.5)),
            (VALUE, lambda: P.get_range(URI, -1)),
            (VALUE, lambda: P.get_range(URI, 0, -1)),
            (VALUE, lambda: P.get_range(URI, 1 << 64)),
            (TYPE, lambda: P.get_into(URI, 10)),
            (TYPE, lambda: P.get_into(URI, b"read-only")),
            (TYPE, lambda: P.get_into(URI, memoryview(bytearray(9)).toreadonly())),
            (VALUE, lambda: P.get_into(URI, memoryview(bytearray(9))[::2])),
            (VALUE, lambda: P.get_into(URI, bytearray(9), -1)),
            (TYPE, lambda: P.put_bytes(URI, "text")),
            (TYPE, lambda: P.put_bytes(URI, 1)),
            (TYPE, lambda: P.put_bytes(URI, None)),
            (VALUE, lambda: P.put_bytes(URI, memoryview(b"01234567")[::2])),
            (VALUE, lambda: P.put_bytes(URI, b"", checksum="crc16")),
            (TYPE, lambda: P.put_bytes(URI, b"", metadata="x")),
            (TYPE, lambda: P.put_bytes(URI, b"", metadata={"x": []})),
            (TYPE, lambda: P.put_bytes(URI, b"", content_type=1)),
            (UNSUPPORTED, lambda: P.put("s3://bucket/x", 100)),
            (TYPE, lambda: P.delete()),
            (VALUE, lambda: P.delete(URI, recursive=True, version="1")),
            (TYPE, lambda: P.copy(URI)),
            (TYPE, lambda: P.copy(URI, 1)),
            (VALUE, lambda: P.rename(URI, self.file)),
            (VALUE, lambda: P.presign(URI, expires_s=-1)),
            (TYPE, lambda: P.presign(URI, 1)),
            (VALUE, lambda: P.list(URI, pattern="[")),
            (VALUE, lambda: P.iterate("s3://bucket/", delimiter="|")),
            (VALUE, lambda: P.upload(self.dir, "s3://bucket/", max_in_flight=0)),
            (TYPE, lambda: P.upload(self.dir, "s3://bucket/", progress=1)),
            (VALUE, lambda: P.download(URI, self.dir, max_in_flight=0)),
            (VALUE, lambda: P.get_many([URI], max_in_flight=0)),
            (VALUE, lambda: P.get_many([URI], max_in_flight=-1)),
            (TYPE, lambda: P.get_many([URI], max_in_flight="1")),
            (TYPE, lambda: P.get_many(URI)),
            (TYPE, lambda: P.get_many([1])),
            (INVALID, lambda: P.get_many([URI, self.file])),
            (VALUE, lambda: P.get_ranges(URI, [(-1, 1)])),
            (TYPE, lambda: P.get_ranges(URI, [1])),
            (VALUE, lambda: P.put_many([(URI, b"")], max_in_flight=0)),
            (TYPE, lambda: P.put_many([URI])),
        ])

    def test_uris_and_options(self):
        self.check([
            (INVALID, lambda: P.get("a/b")),
            (INVALID, lambda: P.get("")),
            (INVALID, lambda: P.get("s3:/bucket/a")),
            (INVALID, lambda: P.get("s3://bucket/")),
            (INVALID, lambda: P.get("s3://bucket/nul\0")),
            (INVALID, lambda: P.get("file:///a/../b")),
            (INVALID, lambda: P.list("a/b")),
            (INVALID, lambda: P.upload(self.dir, "a/b")),
            (INVALID, lambda: P.delete("s3://bucket", recursive=True)),
            (P.NoSchemeError, lambda: P.get("nowhere://a/b")),
            (INVALID, lambda: P.Store("s3://bucket/key")),
            (INVALID, lambda: P.Store("s3://bucket/", {"regoin": "x"})),
            (INVALID, lambda: P.Store("s3://bucket/", {"max_connections": 0})),
            (TYPE, lambda: P.Store("s3://bucket/", ["region"])),
            (TYPE, lambda: P.Store("s3://bucket/", {"region": []})),
            (TYPE, lambda: P.Store("s3://bucket/", credentials="id:secret")),
            (UNSUPPORTED, lambda: P.presign(self.file)),
            (INVALID, lambda: P.delete(f"file://{self.dir}")),
        ])

    def test_a_uri_without_a_bucket_is_refused_before_anything_is_sent(self):
        """As those who are used to file:/// write it; what stands in the key's place is no bucket."""
        S3.buckets.add("empty")
        S3.requests.clear()
        uri = "s3:///empty"
        for call in (P.get, P.stat, P.exists, P.delete, P.list, P.presign, P.delete_prefix,
                     lambda uri: P.put_bytes(uri, b""), lambda uri: P.copy(uri, URI + "2"),
                     lambda uri: P.copy(URI, uri), lambda uri: P.open_writer(uri).finalize(),
                     lambda uri: P.delete(uri, recursive=True)):
            with self.assertRaisesRegex(INVALID, "bucket"):
                call(uri)
        self.assertEqual(S3.requests, [])
        self.assertIn("empty", S3.buckets)

    def test_several_endpoints(self):
        store = P.create_multi_endpoint_store([f"file://{self.dir}", "file:///nowhere"])

        def run(method, *arguments, **keywords):
            return asyncio.run(method(*arguments, **keywords))

        self.check([
            (TYPE, lambda: P.create_multi_endpoint_store()),
            (TYPE, lambda: P.create_multi_endpoint_store(URI)),
            (TYPE, lambda: P.create_multi_endpoint_store([1])),
            (TYPE, lambda: P.create_multi_endpoint_store([URI], options=["region"])),
            (INVALID, lambda: P.create_multi_endpoint_store([])),
            (INVALID, lambda: P.create_multi_endpoint_store([f"s3://b{i}" for i in range(33)])),
            (INVALID, lambda: P.create_multi_endpoint_store([URI, self.file])),
            (INVALID, lambda: P.create_multi_endpoint_store([URI, URI])),
            (INVALID, lambda: P.create_multi_endpoint_store([URI], "random")),
            (INVALID, lambda: P.create_multi_endpoint_store([URI], options={"regoin": "x"})),
            (INVALID, lambda: P.create_multi_endpoint_store_from_template("s3://b{1..3}")),
            (INVALID, lambda: P.create_multi_endpoint_store_from_template("s3://b{1...33}")),
            (INVALID, lambda: P.create_multi_endpoint_store_from_env()),
            (INVALID, lambda: run(store.get, URI)),
            (INVALID, lambda: run(store.get_from_endpoint, 2, "a")),
            (P.NotFoundError, lambda: run(store.get, "none")),
            (TYPE, lambda: run(store.get, 1)),
            (TYPE, lambda: run(store.put, "a", "text")),
            (TYPE, lambda: run(store.put_all_endpoints, "a", "text")),
            (TYPE, lambda: run(store.get_from_endpoint, "0", "a")),
            (VALUE, lambda: run(store.get_range, "a", -1)),
            (VALUE, lambda: run(store.get, "a", timeout=0)),
        ])

    def test_what_is_not_there_or_in_the_way(self):
        self.check([
            (P.NotFoundError, lambda: P.get("s3://bucket/none")),
            (P.NotFoundError, lambda: P.get("s3://nobucket/a")),
            (P.NotFoundError, lambda: P.stat(self.file + "2")),
            (P.NotFoundError, lambda: P.copy(self.file + "2", self.file + "3")),
            (P.NotFoundError, lambda: P.upload(self.dir + "/none", "s3://bucket/")),
            (P.NotFoundError, lambda: P.download("s3://bucket/none", self.dir)),
            (P.NotFoundError, lambda: P.delete_bucket("nobucket")),
            (P.ExistsError, lambda: P.put_bytes(self.file, b"", create_only=True)),
            (P.ExistsError, lambda: P.create_container(self.file)),
            (P.PreconditionError, lambda: P.put_bytes(self.file, b"", if_match="x")),
            (P.RangeError, lambda: P.get_range(URI, 5, 10, exact=True)),
            (P.DataLossError, lambda: P.get(self.file, verify="crc32c:00000000")),
        ])

    def test_object_gone_between_list_and_get(self):
        S3.objects.update({f"bucket/d/{i}": b"x" for i in range(5)})
        uris = P.list("s3://bucket/d")
        del S3.objects["bucket/d/3"]
        with self.assertRaises(P.NotFoundError) as caught:
            P.get_many(uris)
        self.assertEqual(caught.exception.uri, "s3://bucket/d/3")
        results = P.get_many(uris, return_exceptions=True)
        self.assertEqual([uri for uri, _ in results], uris)
        self.assertEqual([type(result).__name__ for _, result in results],
                         ["BytesView"] * 3 + ["NotFoundError", "BytesView"])

    def test_closed_things(self):
        store = P.Store("file:///", {"root": self.dir})
        store.close()
        view = P.get(URI)
        view.release()
        writer = P.create_filesystem_writer(self.file + "w")
        writer.finalize()
        self.check([
            (VALUE, lambda: store.get("file")),
            (VALUE, lambda: store.list()),
            (VALUE, lambda: store.get_many(["file"])),
            (VALUE, lambda: view.memoryview()),
            (INVALID, lambda: writer.write(b"more")),
        ])


if __name__ == "__main__":
    unittest.main()

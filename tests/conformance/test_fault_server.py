#!/usr/bin/env python3
"""test_fault_server.py: the fault server speaks the declared dialect, and fails as it is told to."""
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.environ.get("PST_TEST_SOURCE") or os.path.join(os.path.dirname(__file__), "../..")
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
from faults import FaultServer  # noqa: E402  pylint: disable=wrong-import-position

BODY = bytes(range(256)) * 40


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = FaultServer("s3")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.server.forget_all()
        self.server.put("kit-bucket/some/key", BODY)
        self.connection = http.client.HTTPConnection(self.server.address, timeout=20)
        self.addCleanup(self.connection.close)

    def ask(self, method, path, body=None, **headers):
        names = {k.replace("_", "-"): v for k, v in headers.items()}
        self.connection.request(method, "/kit-bucket" + path, body, names)
        reply = self.connection.getresponse()
        return reply, reply.read()

    def raw(self, request, timeout=20):
        """All bytes that come, and whether the connection was reset."""
        host, port = self.server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=timeout) as s:
            s.sendall(request)
            got = b""
            try:
                while piece := s.recv(65536):
                    got += piece
            except ConnectionResetError:
                return got, True
            return got, False

    def get_raw(self, more=""):
        return self.raw(f"GET /kit-bucket/some/key HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())


class Dialect(Case):
    def test_range_is_a_206_with_its_bytes(self):
        reply, body = self.ask("GET", "/some/key", Range="bytes=10-29")
        self.assertEqual((reply.status, body), (206, BODY[10:30]))
        self.assertEqual(reply.headers["Content-Range"], f"bytes 10-29/{len(BODY)}")
        reply, body = self.ask("GET", "/some/key", Range="bytes=-5")
        self.assertEqual((reply.status, body), (206, BODY[-5:]))
        reply, body = self.ask("GET", "/some/key", Range=f"bytes={len(BODY)}-")
        self.assertEqual(reply.status, 416)
        self.assertIn(b"<Code>InvalidRange</Code>", body)

    def test_head_tells_length_and_sends_nothing(self):
        reply, body = self.ask("HEAD", "/some/key", x_amz_checksum_mode="ENABLED")
        self.assertEqual((reply.headers["Content-Length"], body), (str(len(BODY)), b""))
        self.ask("PUT", "/digits", b"123456789", x_amz_meta_mood="good")
        reply, _ = self.ask("HEAD", "/digits", x_amz_checksum_mode="ENABLED")
        self.assertEqual(reply.headers["x-amz-checksum-crc32c"], "4waSgw==")
        self.assertEqual(reply.headers["x-amz-checksum-crc64nvme"], "rosUhgp5mIg=")
        self.assertEqual(reply.headers["x-amz-meta-mood"], "good")
        self.assertEqual(reply.headers["ETag"], '"25f9e794323b453885f5181f1b624d0b"')

    def test_conditions_hold(self):
        etag = self.ask("HEAD", "/some/key")[0].headers["ETag"]
        for method, path, headers, status in (
                ("GET", "/some/key", {"If_Match": etag}, 200),
                ("GET", "/some/key", {"If_Match": '"other"'}, 412),
                ("GET", "/some/key", {"If_None_Match": etag}, 304),
                ("PUT", "/some/key", {"If_None_Match": "*"}, 412),
                ("PUT", "/new", {"If_None_Match": "*"}, 200),
                ("PUT", "/some/key", {"If_Match": '"other"'}, 412),
                ("PUT", "/not there", {"If_Match": etag}, 404),
                ("PUT", "/some/key", {"If_Match": etag}, 200)):
            reply, _ = self.ask(method, path.replace(" ", "%20"), b"x" if method == "PUT" else None,
                                **headers)
            self.assertEqual(reply.status, status, (method, path, headers))

    def test_sum_that_is_wrong_is_refused(self):
        reply, body = self.ask("PUT", "/x", b"123456789", x_amz_checksum_crc32c="AAAAAA==")
        self.assertEqual(reply.status, 400)
        self.assertIn(b"BadDigest", body)
        self.assertEqual(len(self.server.objects()), 1)

    def list_all(self, query, size):
        """Keys and prefixes of all pages, by size."""
        names, token, pages = [], "", 0
        while True:
            _, body = self.ask("GET", f"?list-type=2&max-keys={size}{query}{token}")
            text = body.decode()
            pages += 1
            page = re.findall(r"<(?:Key|CommonPrefixes><Prefix)>([^<]*)<", text)
            self.assertLessEqual(len(page), size)
            names += page
            more = re.search("<NextContinuationToken>([^<]*)<", text)
            self.assertEqual(more is not None, "<IsTruncated>true<" in text)
            if not more:
                return names, pages
            token = "&continuation-token=" + more[1].replace("%", "%25")

    def test_listing_pages_to_its_end(self):
        keys = sorted(["a", "a/", "a/b", "a/c", "b/c", "b0", "c&d", "d/e/f", "some/key"])
        for key in keys:
            self.server.put("kit-bucket/" + key, b"")
        flat = [k.replace("&", "&amp;") for k in keys]
        folded = ["a", "a/", "b/", "b0", "c&amp;d", "d/", "some/"]
        for size in (1, 2, 1000):
            names, pages = self.list_all("", size)
            self.assertEqual(names, flat)
            self.assertEqual(pages, -(-len(flat) // size))
            names, _ = self.list_all("&delimiter=/", size)
            self.assertEqual(sorted(names), sorted(folded))
        self.assertEqual(self.list_all("&prefix=a/", 10)[0], ["a/", "a/b", "a/c"])
        self.assertEqual(self.list_all("&start-after=b/c", 10)[0], flat[5:])

    def upload(self, key, parts):
        _, body = self.ask("POST", f"/{key}?uploads")
        upload = re.search(b"<UploadId>(.*?)</UploadId>", body)[1].decode()
        listed = ""
        for i, data in enumerate(parts, 1):
            reply, _ = self.ask("PUT", f"/{key}?partNumber={i}&uploadId={upload}", data)
            listed += (f"<Part><PartNumber>{i}</PartNumber><ETag>{reply.headers['ETag']}</ETag>"
                       "</Part>")
        return upload, f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"

    def test_parts_become_an_object_when_they_are_completed(self):
        upload, listed = self.upload("big", [b"one", b"two"])
        self.assertEqual(self.ask("GET", "/big")[0].status, 404)
        self.assertEqual(self.ask("POST", f"/big?uploadId={upload}", listed)[0].status, 200)
        reply, body = self.ask("GET", "/big")
        self.assertEqual(body, b"onetwo")
        parts = b"".join(hashlib.md5(p).digest() for p in (b"one", b"two"))
        self.assertEqual(reply.headers["ETag"], f'"{hashlib.md5(parts).hexdigest()}-2"')
        self.assertEqual(self.ask("POST", f"/big?uploadId={upload}", listed)[0].status, 404)
        self.assertEqual(self.server.uploads(), [])

    def test_abort_forgets_the_parts(self):
        upload, listed = self.upload("big", [b"one"])
        self.assertIn(upload.encode(), self.ask("GET", "?uploads")[1])
        self.assertEqual(self.ask("DELETE", f"/big?uploadId={upload}")[0].status, 204)
        self.assertIn(b"NoSuchUpload", self.ask("POST", f"/big?uploadId={upload}", listed)[1])

    def test_copy_and_batch_delete(self):
        reply, body = self.ask("PUT", "/copy", b"", x_amz_copy_source="/kit-bucket/some%2Fkey")
        self.assertEqual(reply.status, 200)
        self.assertIn(b"<CopyObjectResult", body)
        self.assertEqual(self.server.get("kit-bucket/copy"), BODY)
        keys = "<Delete><Object><Key>copy</Key></Object><Object><Key>none&amp;</Key></Object></Delete>"
        _, body = self.ask("POST", "?delete", keys)
        self.assertEqual(body.count(b"<Deleted>"), 2)
        self.assertEqual([o["key"] for o in self.server.objects()], ["some/key"])

    def test_virtual_host_names_the_container(self):
        got, _ = self.raw(b"GET /some/key HTTP/1.1\r\nHost: kit-bucket.s3.localhost\r\n"
                          b"Connection: close\r\n\r\n")
        self.assertTrue(got.endswith(BODY))

    def test_record_has_requests_and_no_secrets(self):
        self.server.forget_log()
        self.ask("GET", "/some/key?X-Amz-Signature=5ecret&x=1", x_amz_security_token="t0ken",
                 Authorization="AWS4-HMAC-SHA256 Credential=AKID/20260101, Signature=5ecret")
        (entry,) = self.server.log()
        self.assertEqual((entry["do"], entry["route"], entry["key"], entry["status"]),
                         ("get", "GetObject", "some/key", 200))
        self.assertIn("Credential=AKID/", entry["headers"]["authorization"])
        text = json.dumps(entry)
        self.assertNotIn("5ecret", text)
        self.assertNotIn("t0ken", text)


class Faults(Case):
    def fault(self, fault, on="get", **more):
        self.server.set_faults({"on": on, "fault": fault, **more})

    def test_reply_of_the_provider_comes_instead(self):
        self.fault("unavailable")
        reply, body = self.ask("GET", "/some/key")
        self.assertEqual((reply.status, reply.headers["Retry-After"]), (503, "2"))
        self.assertIn(b"<Code>ServiceUnavailable</Code>", body)
        self.assertEqual(self.ask("GET", "/some/key")[1], BODY)

    def test_rule_waits_for_its_turn_and_its_key(self):
        self.fault("throttled", nth=2, times=2, key="some/*")
        self.server.put("kit-bucket/other", b"")
        got = [self.ask("GET", p)[0].status
               for p in ("/some/key", "/other", "/some/key", "/some/key", "/some/key")]
        self.assertEqual(got, [200, 200, 503, 503, 200])

    def test_put_is_applied_although_its_reply_is_cut(self):
        self.fault({"cut": {"at": "before_head"}}, on="put")
        with self.assertRaises(ConnectionError):
            self.ask("PUT", "/new", b"data")
        self.assertEqual(self.server.get("kit-bucket/new"), b"data")

    def test_put_is_not_applied_when_its_body_is_cut(self):
        self.fault({"cut_request": 10}, on="put")
        with self.assertRaises(OSError):
            self.ask("PUT", "/new", b"data" * 1000000)
        self.connection.close()
        self.assertEqual(len(self.server.objects()), 1)
        self.assertEqual(self.ask("PUT", "/new", b"data")[0].status, 200)

    def test_complete_is_applied_although_its_reply_is_cut(self):
        self.fault({"cut": {"at": "in_head"}}, on="upload_commit")
        upload, listed = Dialect.upload(self, "big", [b"one"])
        with self.assertRaises((ConnectionError, http.client.HTTPException)):
            self.ask("POST", f"/big?uploadId={upload}", listed)
        self.connection.close()
        self.assertEqual(self.server.get("kit-bucket/big"), b"one")
        self.assertEqual(self.ask("POST", f"/big?uploadId={upload}", listed)[0].status, 404)

    def test_cut_in_the_body_sends_what_comes_before_it(self):
        self.fault({"cut": {"at": "body", "bytes": 100}})
        got, was_reset = self.get_raw()
        self.assertTrue(was_reset)
        self.assertTrue(got.endswith(b"\r\n\r\n" + BODY[:100]))
        self.fault({"cut": {"at": "body", "bytes": 100, "how": "close"}})
        got, was_reset = self.get_raw()
        self.assertFalse(was_reset)
        self.assertTrue(got.endswith(b"\r\n\r\n" + BODY[:100]))

    def test_lengths_lie(self):
        self.fault({"shorten": 3})
        got, _ = self.get_raw()
        self.assertIn(f"Content-Length: {len(BODY)}\r\n".encode(), got)
        self.assertTrue(got.endswith(b"\r\n\r\n" + BODY[:-3]))
        self.fault({"extend": 5})
        self.assertEqual(len(self.ask("GET", "/some/key", Range="bytes=0-9")[1]), 15)
        self.fault({"content_length": "none"})
        got, _ = self.get_raw()
        self.assertNotIn(b"Content-Length", got)
        self.assertTrue(got.endswith(b"\r\n\r\n" + BODY))

    def test_ranges_lie(self):
        self.fault({"range": "ignore"})
        reply, body = self.ask("GET", "/some/key", Range="bytes=5-9")
        self.assertEqual((reply.status, body), (200, BODY))
        self.fault({"content_range": "none"})
        self.assertIsNone(self.ask("GET", "/some/key", Range="bytes=5-9")[0].headers["Content-Range"])
        self.fault({"content_range": "bytes 0-4/{size}"})
        self.assertEqual(self.ask("GET", "/some/key", Range="bytes=5-9")[0].headers["Content-Range"],
                         f"bytes 0-4/{len(BODY)}")

    def test_conditions_are_ignored(self):
        self.fault({"conditions": "ignore"}, on="put", times=0)
        self.assertEqual(self.ask("PUT", "/some/key", b"x", If_None_Match="*")[0].status, 200)
        self.assertEqual(self.ask("PUT", "/some/key", b"y", If_Match='"other"')[0].status, 200)
        self.assertEqual(self.server.get("kit-bucket/some/key"), b"y")

    def test_shapes_of_a_reply(self):
        self.fault({"chunked": True})
        reply, body = self.ask("GET", "/some/key")
        self.assertEqual((reply.headers["Transfer-Encoding"], body), ("chunked", BODY))
        self.fault({"close": True})
        self.assertEqual(self.ask("GET", "/some/key")[0].headers["Connection"], "close")
        self.fault({"filler": 65536})
        got, _ = self.get_raw("Connection: close\r\n")
        self.assertGreater(got.index(b"\r\n\r\n"), 64 * 1024)
        self.fault({"etag": "changing"}, times=0)
        etags = {self.ask("HEAD", "/some/key")[0].headers["ETag"] for _ in range(1)}
        self.fault({"etag": "changing"}, on=["get", "head"], times=0)
        etags |= {self.ask("HEAD", "/some/key")[0].headers["ETag"] for _ in range(2)}
        self.assertEqual(len(etags), 3)
        self.fault({"flip": 7})
        body = self.ask("GET", "/some/key")[1]
        self.assertEqual([i for i in range(len(BODY)) if body[i] != BODY[i]], [7])
        self.fault("error_with_200", on="copy")
        reply, body = self.ask("PUT", "/copy", b"", x_amz_copy_source="kit-bucket/some/key")
        self.assertEqual(reply.status, 200)
        self.assertIn(b"<Error><Code>InternalError</Code>", body)
        self.assertEqual(len(self.server.objects()), 1)

    def test_drip_takes_its_time(self):
        self.fault({"drip": {"bytes": 2500, "every_ms": 20}})
        started = time.monotonic()
        self.assertEqual(self.ask("GET", "/some/key")[1], BODY)
        self.assertGreater(time.monotonic() - started, 0.06)

    def test_stall_ends_with_the_client(self):
        self.fault({"stall": {"at": "body", "bytes": 10}})
        with self.assertRaises(TimeoutError):
            self.raw(b"GET /kit-bucket/some/key HTTP/1.1\r\nHost: x\r\n\r\n", timeout=0.3)
        self.assertEqual(self.ask("GET", "/some/key")[1], BODY)

    def test_stall_ends_with_the_server(self):
        with FaultServer("s3") as server:
            server.put("kit-bucket/x", b"x")
            server.set_faults({"on": "get", "fault": {"stall": {"at": "before_head"}}})
            host, port = server.address.split(":")
            with socket.create_connection((host, int(port))) as s:
                s.sendall(b"GET /kit-bucket/x HTTP/1.1\r\nHost: x\r\n\r\n")
                while not server.log():
                    pass

    def test_client_of_tls_hears_nonsense(self):
        hello = b"\x16\x03\x01\x00\x05hello" + struct.pack(">I", 7) + b"\n"
        got, _ = self.raw(hello)
        self.assertFalse(got.startswith(b"\x16"))

    def test_batch_delete_refuses_one_key(self):
        self.fault({"refuse_key": 2}, on="delete_many")
        self.server.put("kit-bucket/a", b"")
        _, body = self.ask("POST", "?delete", "<Delete><Object><Key>a</Key></Object>"
                           "<Object><Key>some/key</Key></Object></Delete>")
        self.assertIn(b"<Deleted><Key>a</Key>", body)
        self.assertIn(b"<Error><Key>some/key</Key><Code>AccessDenied</Code>", body)
        self.assertEqual([o["key"] for o in self.server.objects()], ["some/key"])

    def test_fault_with_a_mistake_is_refused(self):
        for rules in ([{"on": "get"}], [{"on": "get", "fault": "unheard"}],
                      [{"on": "get", "fault": {"cutt": 1}}], {"on": "get"}):
            with self.assertRaises(RuntimeError):
                self.server.control("PUT", "faults", json.dumps(rules))

    def test_many_clients_at_once(self):
        self.fault({"delay_ms": 5}, times=0)
        wrong = []

        def work():
            connection = http.client.HTTPConnection(self.server.address, timeout=20)
            for _ in range(10):
                connection.request("GET", "/kit-bucket/some/key")
                if connection.getresponse().read() != BODY:
                    wrong.append(1)
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        self.assertEqual(sum(e["do"] == "get" for e in self.server.log()), 160)


class Declarations(unittest.TestCase):
    def test_declaration_with_a_mistake_is_refused(self):
        route = {"name": "r", "do": "get"}
        for declaration in ([], {}, {"routes": [{}]}, {"routes": [{**route, "query": {"a": 1}}]},
                            {"routes": [{**route, "replies": {"ok": "missing"}}]},
                            {"routes": [route], "outcomes": {"ok": "missing"}},
                            {"routes": [route], "replies": {"x": {"headers": {"a": 7}}}}):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
                json.dump(declaration, f)
                f.flush()
                done = subprocess.run([os.path.join(os.environ["PST_TEST_BIN"], "penstock"),
                                       "conformance", "serve-faults", f.name],
                                      capture_output=True, text=True, check=False, timeout=20)
            self.assertEqual(done.returncode, 2, declaration)
            self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1), done.stderr)


unittest.main(verbosity=1)

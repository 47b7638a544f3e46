"""MultiEndpointStore: which endpoint is asked, and what happens when it cannot answer."""
import asyncio
import os
import pathlib
import pickle
import shutil
import tempfile
import types
import unittest
from unittest import mock

import fake_s3
import penstock
from penstock import _endpoints

KEYS = {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "secret"}
FIGURES = ["total_requests", "bytes_read", "bytes_written", "error_count", "active_requests"]


class Directories(unittest.IsolatedAsyncioTestCase):
    """Three directories."""

    def setUp(self):
        self.top = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.top)
        self.uris = [f"file://{self.top}/e{i}" for i in range(3)]
        for i in range(3):
            os.mkdir(f"{self.top}/e{i}")
        self.store = penstock.create_multi_endpoint_store(self.uris)

    def write(self, i, name, data):
        path = f"{self.top}/e{i}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    def write_all(self, name, data):
        for i in range(3):
            self.write(i, name, data)

    def holders(self, name):
        return [i for i in range(3) if os.path.exists(f"{self.top}/e{i}/{name}")]

    def figures(self, name):
        return [stats[name] for stats in self.store.get_endpoint_stats()]


class Names(Directories):
    async def test_an_object_has_a_name_below_each_endpoint_and_a_key(self):
        self.write_all("d/a", b"0123456789")
        for name in ("d/a", b"d/a", self.uris[0] + "/d/a", self.uris[2] + "/d/a"):
            for _ in range(3):
                with self.subTest(name=name):
                    view = await self.store.get(name)
                    self.assertIsInstance(view, penstock.BytesView)
                    self.assertEqual(bytes(view), b"0123456789")
                    self.assertEqual(await self.store.get_range(name, 2, 3), b"234")
                    self.assertEqual(await self.store.get_range(name, 7), b"789")

    async def test_a_path_object_names_a_local_file(self):
        self.write_all("a", b"x")
        store = penstock.create_multi_endpoint_store(
            [pathlib.Path(self.top, f"e{i}") for i in range(3)])
        self.assertEqual(await store.get(pathlib.Path(self.top, "e1/a")), b"x")

    async def test_what_lies_below_no_endpoint_is_refused(self):
        for name in (f"file://{self.top}/e", f"file://{self.top}/e11/a", "file:///etc/passwd",
                     "s3://bucket/a"):
            with self.subTest(name=name):
                with self.assertRaises(penstock.InvalidArgumentError) as caught:
                    await self.store.get(name)
                self.assertEqual(caught.exception.uri, name)
        self.assertEqual(self.store.get_total_stats(), dict.fromkeys(FIGURES, 0))

    async def test_the_endpoint_with_the_longer_name_is_meant(self):
        store = penstock.create_multi_endpoint_store([self.uris[0], self.uris[0] + "/sub"])
        self.write(0, "a", b"outer")
        self.write(0, "sub/a", b"inner")
        for _ in range(2):
            got = {bytes(await store.get(self.uris[0] + "/sub/a")) for _ in range(2)}
            self.assertEqual(got, {b"outer", b"inner"})  # key "a" of both

    async def test_listings_do_not_tell_who_answered(self):
        for name in ("d/a", "d/b", "d/sub/c", "other"):
            self.write_all(name, b"x")
        for i in range(3):
            for uri in (self.uris[i] + "/d", self.uris[i] + "/d/"):
                self.assertEqual(await self.store.list(uri), [
                    self.uris[i] + name for name in ("/d/a", "/d/b", "/d/sub/")])
        self.assertEqual(await self.store.list(self.uris[1], recursive=True), [
            self.uris[1] + name for name in ("/d/a", "/d/b", "/d/sub/c", "/other")])
        self.assertEqual(await self.store.list("d/a"), [self.uris[0] + "/d/a"])
        self.assertEqual(len(await self.store.list()), 2)
        self.assertEqual(await self.store.list("nothing/"), [])

    async def test_repr_names_the_endpoints(self):
        self.assertEqual(repr(self.store), "MultiEndpointStore("
                         f"{[uri + '/' for uri in self.uris]!r}, 'round_robin')")


class Making(Directories):
    def names(self, store):
        return [stats["uri"] for stats in store.get_endpoint_stats()]

    def test_templates_stand_for_ranges(self):
        make = penstock.create_multi_endpoint_store_from_template
        for template, wanted in (
                ("file:///e{1...3}", ["file:///e1/", "file:///e2/", "file:///e3/"]),
                ("file:///e{08...10}/x/", ["file:///e08/x/", "file:///e09/x/", "file:///e10/x/"]),
                ("file:///{7...7}", ["file:///7/"]),
                ("file:///r{1...2}n{0...1}",
                 ["file:///r1n0/", "file:///r1n1/", "file:///r2n0/", "file:///r2n1/"]),
                ("file:///alone", ["file:///alone/"]),
                ("s3://10.0.0.{1...2}:9000/b/", ["s3://10.0.0.1:9000/b/", "s3://10.0.0.2:9000/b/"])):
            with self.subTest(template=template):
                self.assertEqual(self.names(make(template)), wanted)
        self.assertEqual(make("file:///e{1...32}", "least_connections").endpoint_count(), 32)

    def test_wrong_templates_are_refused(self):
        for template in ("file:///{1..3}", "file:///{3...1}", "file:///{a...b}", "file:///{1...}",
                         "file:///{1...3", "file:///1...3}", "file:///{{1...3}}", "file:///{}",
                         "file:///{-1...3}", "file:///{1...33}", "file:///{1...6}{1...6}",
                         "file:///{1...999999999}{1...999999999}", "file:///{1...9999999999}",
                         "file:///{٣...٤}", "e{1...3}"):
            with self.subTest(template=template):
                with self.assertRaises(penstock.InvalidArgumentError) as caught:
                    penstock.create_multi_endpoint_store_from_template(template)
                self.assertIn(caught.exception.uri, (template, "e1/"))  # which is no URI

    def test_a_file_has_one_endpoint_a_line(self):
        path = f"{self.top}/list"
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"# replicas\n\n  {self.uris[0]}\n{self.uris[1]}/  \n#{self.uris[2]}\n")
        store = penstock.create_multi_endpoint_store_from_file(path, "least_connections")
        self.assertEqual(self.names(store), [self.uris[0] + "/", self.uris[1] + "/"])
        self.assertEqual(store.strategy(), "least_connections")
        with self.assertRaises(FileNotFoundError):
            penstock.create_multi_endpoint_store_from_file(path + "2")
        with open(path, "w", encoding="utf-8") as f:
            f.write("# nothing\n")
        with self.assertRaises(penstock.InvalidArgumentError):
            penstock.create_multi_endpoint_store_from_file(path)

    def test_the_environment_has_a_list(self):
        make = penstock.create_multi_endpoint_store_from_env
        with mock.patch.dict(os.environ, {"S3_ENDPOINT_URIS": f" {self.uris[0]} ,{self.uris[1]},"}):
            self.assertEqual(self.names(make()), [self.uris[0] + "/", self.uris[1] + "/"])
        for value in ("", " , "):
            with mock.patch.dict(os.environ, {"S3_ENDPOINT_URIS": value}), \
                    self.assertRaisesRegex(penstock.InvalidArgumentError, "S3_ENDPOINT_URIS"):
                make()
        with mock.patch.dict(os.environ), self.assertRaises(penstock.InvalidArgumentError):
            os.environ.pop("S3_ENDPOINT_URIS", None)
            make()

    def test_a_server_has_a_port_or_is_an_address(self):
        def opened(uri, **keywords):
            endpoint = penstock.MultiEndpointStore([uri], **keywords)._endpoints[0]
            return endpoint.store.uri, endpoint.store.options.get("endpoint"), endpoint.prefix

        for uri, wanted in (
                ("s3://host:9000/bucket", ("s3://bucket/", "http://host:9000", "")),
                ("s3://host:9000/bucket/a/b", ("s3://bucket/", "http://host:9000", "a/b/")),
                ("s3://10.0.0.1/bucket/", ("s3://bucket/", "http://10.0.0.1", "")),
                ("s3://[::1]:9000/bucket/", ("s3://bucket/", "http://[::1]:9000", "")),
                ("s3://bucket/a/", ("s3://bucket/", None, "a/")),
                ("s3://my.own.bucket", ("s3://my.own.bucket/", None, "")),
                ("s3://2024-data/", ("s3://2024-data/", None, "")),
                ("file:///mnt/1", ("file:///", None, "mnt/1/")),
                ("direct:///mnt/1/", ("direct:///", None, "mnt/1/"))):
            with self.subTest(uri=uri):
                self.assertEqual(opened(uri), wanted)
        self.assertEqual(opened("s3://host:9000/bucket", tls=True)[1], "https://host:9000")
        self.assertEqual(opened("s3://bucket", options={"endpoint": "http://a:1,http://b:1"})[1],
                         "http://a:1,http://b:1")

    def test_what_cannot_be_is_refused_before_anything_is_asked(self):
        for words, uris, keywords in (
                ("endpoint at least", [], {}),
                ("32 endpoints at most", [f"file:///{i}" for i in range(33)], {}),
                ("several schemes: file, s3", ["file:///a", "s3://bucket/"], {}),
                ("several schemes", ["file:///a", "direct:///b"], {}),
                ("named twice", ["file:///a", "file:///a/"], {}),
                ("neither 'round_robin'", ["file:///a"], {"strategy": "round-robin"}),
                ("neither 'round_robin'", ["file:///a"], {"strategy": 1}),
                ("no URI", ["/mnt/1"], {}),
                ("no bucket", ["s3://host:9000/"], {}),
                ("so do the options", ["s3://host:9000/b"], {"options": {"endpoint": "http://a"}}),
                ("no server to ask by https", ["s3://bucket"], {"tls": True}),
                ("no option 'regoin'", ["s3://bucket"], {"options": {"regoin": "x"}})):
            with self.subTest(words=words):
                with self.assertRaisesRegex(penstock.InvalidArgumentError, words) as caught:
                    penstock.MultiEndpointStore(uris, **keywords)
                if words.startswith("no ") or "twice" in words or "so do" in words:  # of one URI
                    self.assertIn(caught.exception.uri.rstrip("/"),
                                  [uri.rstrip("/") for uri in uris])
        with self.assertRaises(penstock.NoSchemeError):
            penstock.MultiEndpointStore(["nowhere://a/"])
        for wrong in ("file:///a", b"file:///a", [1], 1, None):
            with self.subTest(wrong=wrong), self.assertRaises(TypeError):
                penstock.MultiEndpointStore(wrong)

    async def test_it_is_pickled_without_secrets_and_without_figures(self):
        self.write_all("a", b"x")
        await self.store.get("a")
        again = pickle.loads(pickle.dumps(self.store))
        self.assertEqual(repr(again), repr(self.store))
        self.assertEqual(again.get_total_stats(), dict.fromkeys(FIGURES, 0))
        self.assertEqual(await again.get(self.uris[2] + "/a"), b"x")
        secret = penstock.MultiEndpointStore(["s3://host:9000/b"], options={
            **KEYS, "secret_access_key": "Xyzzy"})
        self.assertNotIn(b"Xyzzy", pickle.dumps(secret))


class Choice(Directories):
    async def test_endpoints_take_turns(self):
        self.write_all("a", b"x")
        for _ in range(6):
            await self.store.get("a")
        self.assertEqual(self.figures("total_requests"), [2, 2, 2])
        await asyncio.gather(*(self.store.get("a") for _ in range(30)))
        self.assertEqual(self.figures("total_requests"), [12, 12, 12])

    async def test_the_endpoint_with_the_fewest_requests_under_way_is_asked(self):
        with fake_s3.FakeS3() as slow, fake_s3.FakeS3() as fast:
            for s3 in (slow, fast):
                s3.objects["bucket/a"] = b"x"
            slow.is_hanging = True
            self.store = two_servers(slow, fast, "least_connections")
            first = asyncio.ensure_future(self.store.get("a"))
            while not slow.requests:
                await asyncio.sleep(0.01)
            for _ in range(5):
                await self.store.get("a")
            self.assertEqual(self.figures("total_requests"), [1, 5])
            self.assertEqual(self.figures("active_requests"), [1, 0])
            first.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await first
            self.assertEqual(self.figures("active_requests"), [0, 0])
            self.assertEqual(self.figures("error_count"), [0, 0])

    async def test_a_write_goes_to_one_endpoint(self):
        for i in range(3):
            await self.store.put(f"a{i}", b"data")
            self.assertEqual(self.holders(f"a{i}"), [i])
        self.write_all("b", b"x")
        await self.store.delete("b")
        self.assertEqual(self.holders("b"), [1, 2])

    async def test_an_endpoint_may_be_named(self):
        for i in range(3):
            await self.store.put_to_endpoint(i, "shard", b"%d" % i)
        for i in (2, 0, 1):
            await self.store.get("shard")
            self.assertEqual(await self.store.get_from_endpoint(i, "shard"), b"%d" % i)
        await self.store.delete_from_endpoint(1, self.uris[0] + "/shard")
        self.assertEqual(self.holders("shard"), [0, 2])
        with self.assertRaises(penstock.NotFoundError):
            await self.store.get_from_endpoint(1, "shard")

    async def test_an_endpoint_that_is_not_there_is_refused(self):
        for index, kind in ((3, penstock.InvalidArgumentError), (-1, penstock.InvalidArgumentError),
                            ("0", TypeError), (0.0, TypeError)):
            for call in (lambda: self.store.get_from_endpoint(index, "a"),
                         lambda: self.store.put_to_endpoint(index, "a", b""),
                         lambda: self.store.delete_from_endpoint(index, "a")):
                with self.subTest(index=index), self.assertRaises(kind):
                    await call()

    async def test_all_endpoints_are_written_and_listed(self):
        self.assertIsNone(await self.store.put_all_endpoints("a", b"data"))
        self.assertEqual(self.holders("a"), [0, 1, 2])
        self.write(1, "only1", b"x")
        self.write(2, "only2", b"x")
        self.assertEqual(await self.store.list_all_endpoints(self.uris[1] + "/"), [
            self.uris[1] + name for name in ("/a", "/only1", "/only2")])
        self.assertEqual(await self.store.delete_all_endpoints("a", return_exceptions=True),
                         [None, None, None])
        self.assertEqual(self.holders("a"), [])

    async def test_what_failed_is_told_for_each_endpoint(self):
        self.write(1, "in-the-way/file", b"x")
        with self.assertRaises(penstock.Error) as caught:
            await self.store.put_all_endpoints("in-the-way", b"data")
        self.assertEqual(self.holders("in-the-way"), [0, 1, 2])
        self.assertTrue(os.path.isfile(f"{self.top}/e2/in-the-way"))
        notes = caught.exception.__notes__
        self.assertEqual(notes[0], "1 of 3 endpoints failed:")
        self.assertIn(self.uris[1], notes[1])
        results = await self.store.put_all_endpoints("in-the-way", b"data", return_exceptions=True)
        self.assertEqual([isinstance(result, penstock.Error) for result in results],
                         [False, True, False])
        self.assertEqual(self.figures("error_count"), [0, 2, 0])

    async def test_a_wrong_argument_is_no_request(self):
        for call in (lambda: self.store.get_range("a", -1), lambda: self.store.get(1),
                     lambda: self.store.get("a", timeout=0), lambda: self.store.put("a", "text"),
                     lambda: self.store.put("a", 1), lambda: self.store.get("a", timeout="1"),
                     lambda: self.store.put_all_endpoints("a", "text"),
                     lambda: self.store.put_all_endpoints("a", b"", nothing=1),
                     lambda: self.store.get("a", nothing=1)):
            with self.assertRaises((TypeError, ValueError)) as caught:
                await call()
            self.assertNotIsInstance(caught.exception, penstock.Error)
        self.assertEqual(self.store.get_total_stats(), dict.fromkeys(FIGURES, 0))

    async def test_data_may_be_copied_first(self):
        data = bytearray(b"first")
        task = asyncio.ensure_future(self.store.put_all_endpoints("a", data, borrow=False))
        await asyncio.sleep(0)
        data[:] = b"later"
        await task
        self.assertEqual(await self.store.get("a"), b"first")

    async def test_figures_are_what_happened(self):
        self.write_all("a", b"0123456789")
        await self.store.get("a")
        await self.store.get_range("a", 8, 10)
        await self.store.put("b", b"123")
        await self.store.put_all_endpoints("c", memoryview(b"12345678").cast("I"))
        await self.store.list()
        with self.assertRaises(penstock.NotFoundError):
            await self.store.get("missing")
        self.assertEqual(self.store.get_endpoint_stats(), [
            {"uri": self.uris[0] + "/", "total_requests": 3, "bytes_read": 10, "bytes_written": 8,
             "error_count": 0, "active_requests": 0},
            {"uri": self.uris[1] + "/", "total_requests": 3, "bytes_read": 2, "bytes_written": 8,
             "error_count": 1, "active_requests": 0},
            {"uri": self.uris[2] + "/", "total_requests": 2, "bytes_read": 0, "bytes_written": 11,
             "error_count": 0, "active_requests": 0}])
        self.assertEqual(self.store.get_total_stats(), {
            "total_requests": 8, "bytes_read": 12, "bytes_written": 27, "error_count": 1,
            "active_requests": 0})

    async def test_a_child_counts_for_itself(self):
        self.write_all("a", b"x")
        await self.store.get("a")
        with _endpoints._lock:  # as if another thread were counting
            pid = os.fork()
            if pid == 0:
                wanted = {**dict.fromkeys(FIGURES, 0), "total_requests": 1, "bytes_read": 1}
                asyncio.run(self.store.get("a"))
                os._exit(0 if self.store.get_total_stats() == wanted else 1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(self.store.get_total_stats()["total_requests"], 1)


def two_servers(first, second, strategy=None):
    return penstock.create_multi_endpoint_store(
        [f"s3://{s3.endpoint.partition('//')[2]}/bucket/" for s3 in (first, second)], strategy,
        options=KEYS)


class Servers(Directories):
    """Two S3 servers."""

    def setUp(self):
        self.s3 = [fake_s3.FakeS3(), fake_s3.FakeS3()]
        for s3 in self.s3:
            self.addCleanup(s3.close)
            s3.objects["bucket/a"] = b"0123456789"
        self.store = two_servers(*self.s3)
        self.clock = 1000.0
        self.patch = mock.patch.object(
            _endpoints, "time", types.SimpleNamespace(monotonic=lambda: self.clock))

    def stop(self, i):
        self.s3[i].close()

    async def test_requests_go_to_the_servers_that_the_uris_name(self):
        await self.store.put("x", b"1")
        await self.store.put("y", b"2")
        self.assertEqual([sorted(s3.objects) for s3 in self.s3],
                         [["bucket/a", "bucket/x"], ["bucket/a", "bucket/y"]])
        self.assertEqual(await self.store.get_from_endpoint(1, "y"), b"2")

    async def test_reads_fail_over(self):
        self.stop(0)
        with self.assertLogs("penstock", "WARNING") as logs:
            for _ in range(2):
                self.assertEqual(await self.store.get("a"), b"0123456789")
                self.assertEqual(await self.store.get_range("a", 3, 2), b"34")
                self.assertEqual(len(await self.store.list("")), 1)
        self.assertEqual(self.figures("total_requests"), [1, 6])  # then it is left out
        self.assertEqual(self.figures("error_count"), [1, 0])
        self.assertEqual(self.figures("bytes_read"), [0, 24])
        self.assertEqual(len(logs.output), 1)
        self.assertIn("is left out for 1 s", logs.output[0])

    async def test_reads_fail_over_in_the_middle_of_a_conversation(self):
        for _ in range(2):
            await self.store.get("a")
        self.stop(1)
        for _ in range(4):
            self.assertEqual(await self.store.get("a"), b"0123456789")
        self.assertEqual(self.figures("error_count"), [0, 1])

    async def test_when_nobody_answers_all_are_named(self):
        self.stop(0)
        self.stop(1)
        with self.assertRaises(penstock.UnavailableError) as caught:
            await self.store.get("a")
        uris = [stats["uri"] for stats in self.store.get_endpoint_stats()]
        self.assertEqual(caught.exception.endpoint, uris[1].split("/")[2])
        self.assertIn(uris[0], caught.exception.__notes__[0])
        self.assertEqual(self.figures("error_count"), [1, 1])

    async def test_a_replica_that_is_broken_is_not_believed(self):
        read = penstock.Store.get_async
        broken = self.store._endpoints[0].store
        for kind in (penstock.StoreIOError, penstock.DataLossError):
            async def get(store, key, *, timeout):
                if store is broken:
                    raise kind("broken")
                return await read(store, key, timeout=timeout)

            before = self.figures("total_requests")
            with mock.patch.object(penstock.Store, "get_async", get), \
                    self.assertLogs("penstock", "WARNING") as logs:
                for _ in range(4):
                    self.assertEqual(await self.store.get("a"), b"0123456789")
            self.assertEqual(len(logs.output), 2)  # of one object perhaps: it is not left out
            self.assertEqual(self.figures("total_requests"), [before[0] + 2, before[1] + 4])

    async def test_an_answer_is_no_reason_to_ask_another(self):
        del self.s3[0].objects["bucket/a"]
        with self.assertRaises(penstock.NotFoundError):
            await self.store.get("a")
        self.assertEqual(self.figures("total_requests"), [1, 0])

    async def test_a_write_that_reached_nobody_goes_to_the_next(self):
        self.stop(0)
        await self.store.put("x", b"123")
        self.assertEqual(self.s3[1].objects["bucket/x"], b"123")
        self.assertEqual(self.figures("bytes_written"), [0, 3])

    async def test_a_write_that_may_have_happened_goes_nowhere_else(self):
        self.s3[0].is_cutting = True
        for call in (lambda: self.store.put("x", b"123"), lambda: self.store.delete("a")):
            self.store = two_servers(*self.s3)
            with self.assertRaises(penstock.UnavailableError) as caught:
                await call()
            self.assertTrue(caught.exception.maybe_applied)
            self.assertEqual(self.figures("total_requests"), [1, 0])
        self.assertEqual(self.s3[1].objects, {"bucket/a": b"0123456789"})

    async def test_a_server_that_is_back_is_asked_again(self):
        self.s3[0].is_cutting = True
        with self.patch:
            await self.store.get("a")
            for pause_s in (1, 2, 4):
                before = self.figures("total_requests")[0]
                self.clock += pause_s - 0.01
                await self.store.get("a")
                await self.store.get("a")
                self.assertEqual(self.figures("total_requests")[0], before)
                self.clock += 0.02
                await asyncio.gather(*(self.store.get("a") for _ in range(6)))
                self.assertEqual(self.figures("total_requests")[0], before + 1)
            self.s3[0].is_cutting = False
            self.clock += 8.1
            await self.store.get("a")
            await self.store.get("a")
            before = self.figures("total_requests")
            await asyncio.gather(*(self.store.get("a") for _ in range(6)))
            self.assertEqual(self.figures("total_requests"), [n + 3 for n in before])

    def test_it_is_left_out_for_half_a_minute_at_most(self):
        endpoint = self.store._endpoints[0]
        pauses_s = []
        for _ in range(7):
            endpoint._leave_out(endpoint.rest_s, penstock.UnavailableError("down"))
            pauses_s.append(endpoint.rest_s)
        self.assertEqual(pauses_s, [1, 2, 4, 8, 16, 30, 30])

    async def test_failures_of_one_moment_count_once(self):
        self.s3[0].is_cutting = True
        with self.patch, self.assertLogs("penstock", "WARNING") as logs:
            await asyncio.gather(*(self.store.get("a") for _ in range(20)))
        self.assertEqual(self.figures("error_count"), [10, 0])
        self.assertEqual(len(logs.output), 1)

    async def test_the_timeout_is_for_all_together(self):
        self.s3[0].is_hanging = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self.assertRaises(penstock.TimeoutError):
            await self.store.get("a", timeout=0.3)
        self.assertLess(loop.time() - began, 3)
        self.assertEqual(self.figures("total_requests"), [1, 0])

    async def test_the_next_endpoint_has_the_time_that_is_left(self):
        waits_s = []

        async def fail(store, key, *, timeout):
            waits_s.append(timeout)
            self.clock += 4
            raise penstock.UnavailableError("down")

        with self.patch, mock.patch.object(penstock.Store, "get_async", fail):
            for timeout, wanted in ((10, [10, 6]), (4, [4]), (None, [None, None])):
                waits_s.clear()
                with self.assertRaises(penstock.UnavailableError):
                    await self.store.get("a", timeout=timeout)
                self.assertEqual(waits_s, wanted)

    async def test_a_cancelled_task_leaves_nothing(self):
        for s3 in self.s3:
            s3.is_hanging = True
        tasks = [asyncio.ensure_future(self.store.get("a")),
                 asyncio.ensure_future(self.store.put_all_endpoints("x", b"1")),
                 asyncio.ensure_future(self.store.list(""))]
        while sum(self.figures("active_requests")) < 4:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with self.assertRaises(asyncio.CancelledError):
                await task
        self.assertEqual(self.figures("active_requests"), [0, 0])
        self.assertEqual(self.figures("error_count"), [0, 0])

    async def test_all_endpoints_but_one(self):
        self.stop(1)
        results = await self.store.put_all_endpoints("x", b"123", return_exceptions=True)
        self.assertIsNone(results[0])
        self.assertIsInstance(results[1], penstock.UnavailableError)
        self.assertEqual(self.s3[0].objects["bucket/x"], b"123")
        with self.assertRaises(penstock.UnavailableError) as caught:
            await self.store.list_all_endpoints()
        self.assertEqual(caught.exception.__notes__[0], "1 of 2 endpoints failed:")


if __name__ == "__main__":
    unittest.main()

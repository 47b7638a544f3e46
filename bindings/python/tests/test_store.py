"""penstock.Store: opening, the operations by key, closing, pickling, credentials."""
import copy
import datetime
import gc
import os
import pickle
import shutil
import tempfile
import threading
import time
import unittest
import weakref

import fake_s3
import penstock

CALLS = []


def credentials_of_the_module(uri):
    CALLS.append(uri)
    return {"access_key_id": "from-function", "secret_access_key": "s"}


class Labelled(penstock.Store):
    pass


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.store = penstock.Store("file:///", {"root": self.dir})

    def write(self, name, data):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        return path


class Opening(Case):
    def test_uri_ends_after_the_authority(self):
        self.assertEqual(self.store.uri, "file:///")
        self.assertEqual(penstock.Store("file://").uri, "file:///")
        with self.assertRaises(penstock.InvalidArgumentError):
            penstock.Store("file:///tmp/x")

    def test_wrong_arguments_are_refused(self):
        for kind, arguments, named in (
                (TypeError, (), {}),
                (TypeError, (1,), {}),
                (TypeError, ("file:///", 1), {}),
                (TypeError, ("file:///",), {"credentials": 1}),
                (TypeError, ("file:///", {1: "x"}), {}),
                (TypeError, ("file:///",), {"more": 1}),
                (ValueError, ("nothing",), {}),
                (penstock.InvalidArgumentError, ("file:///", {"rooot": "/"}), {}),
                (penstock.InvalidArgumentError, ("file:///", {"root": "relative"}), {}),
                (penstock.NoSchemeError, ("nowhere://x/",), {})):
            with self.subTest(arguments=arguments, named=named), self.assertRaises(kind):
                penstock.Store(*arguments, **named)

    def test_unknown_option_suggests_the_right_one(self):
        with self.assertRaisesRegex(penstock.InvalidArgumentError, "root"):
            penstock.Store("file:///", {"rooot": "/"})

    def test_subclass_has_attributes_and_goes(self):
        class Mine(penstock.Store):
            pass

        store = Mine("file:///", {"root": self.dir})
        store.label = "x"
        store.itself = store
        store.put("a", b"1")
        watch = weakref.ref(store)
        del store
        gc.collect()
        self.assertIsNone(watch())

    def test_describe_tells_what_it_can(self):
        told = self.store.describe()
        self.assertEqual((told["plugin"], told["scheme"]), ("file", "file"))
        self.assertLessEqual({"read", "put", "list", "empty_dirs"}, told["capabilities"])
        self.assertIsInstance(told["capabilities"], frozenset)

    def test_repr_names_the_uri_and_no_option(self):
        self.assertEqual(repr(self.store), "<penstock.Store 'file:///'>")


class Operations(Case):
    def test_get_gives_what_put_wrote(self):
        etag = self.store.put("d/a", b"hello")
        self.assertIsInstance(etag, str)
        self.assertEqual(self.store.get("d/a").to_bytes(), b"hello")
        self.assertEqual(self.store.get(key="d/a"), b"hello")
        self.assertEqual(self.store.stat("d/a")["etag"], etag)

    def test_put_takes_any_contiguous_buffer(self):
        import array
        for data in (b"12345678", bytearray(b"12345678"), memoryview(b"12345678"),
                     memoryview(b"xx12345678")[2:], array.array("b", b"12345678")):
            self.store.put_bytes("a", data)
            self.assertEqual(self.store.get("a"), b"12345678")
        self.store.put("b", self.store.get("a"))
        self.assertEqual(self.store.get("b"), b"12345678")
        self.store.put("empty", b"")
        self.assertEqual(len(self.store.get("empty")), 0)

    def test_put_refuses_what_is_no_buffer(self):
        for data in (1, True, "text", None, [1, 2], iter([b"x"])):
            with self.subTest(data=data), self.assertRaises(TypeError):
                self.store.put("a", data)
        with self.assertRaises((TypeError, ValueError, BufferError)):
            self.store.put("a", memoryview(b"12345678")[::2])
        self.assertFalse(self.store.exists("a"))

    def test_range_follows_pread(self):
        self.store.put("a", b"0123456789")
        for offset, length, expected in ((2, 3, b"234"), (8, 5, b"89"), (10, 1, b""), (99, 1, b""),
                                         (3, 0, b""), (4, None, b"456789"), (0, None, b"0123456789")):
            with self.subTest(offset=offset, length=length):
                self.assertEqual(self.store.get_range("a", offset, length), expected)
        self.assertEqual(self.store.get_suffix("a", 3), b"789")
        self.assertEqual(self.store.get_suffix("a", 30), b"0123456789")
        with self.assertRaises(penstock.RangeError):
            self.store.get_range("a", 8, 5, exact=True)

    def test_numbers_are_checked_before_any_io(self):
        for call in (lambda: self.store.get_range("none", -1), lambda: self.store.get_range("none", 0, -1),
                     lambda: self.store.get_into("none", bytearray(1), -1),
                     lambda: self.store.get("none", timeout=0), lambda: self.store.get("none", timeout=-1),
                     lambda: self.store.get("none", decode="gzip"),
                     lambda: self.store.put("none", b"", checksum="crc16")):
            with self.assertRaises(ValueError) as caught:
                call()
            self.assertNotIsInstance(caught.exception, penstock.Error)
        for call in (lambda: self.store.get_range("none", "x"), lambda: self.store.get(1),
                     lambda: self.store.get("none", timeout="x"), lambda: self.store.get(),
                     lambda: self.store.get_into("none", b"read-only"), lambda: self.store.get("a", "b"),
                     lambda: self.store.get("a", nothing=1), lambda: self.store.get("a", if_match=1),
                     lambda: self.store.put("a", b"", metadata=[])):
            with self.assertRaises(TypeError):
                call()

    def test_get_into_fills_the_callers_memory(self):
        self.store.put("a", b"0123456789")
        into = bytearray(b"." * 16)
        self.assertEqual(self.store.get_into("a", into), 10)
        self.assertEqual(into, b"0123456789......")
        part = memoryview(into)[4:8]
        self.assertEqual(self.store.get_into("a", part, 3), 4)
        self.assertEqual(into, b"01233456" + b"89......")
        self.assertEqual(self.store.get_into("a", into, 10), 0)
        part.release()
        into.extend(b"the export is released")

    def test_missing_object_is_named(self):
        with self.assertRaises(penstock.NotFoundError) as caught:
            self.store.get("no/such")
        self.assertIsInstance(caught.exception, FileNotFoundError)
        self.assertEqual(caught.exception.code, "NOT_FOUND")
        self.assertEqual(caught.exception.uri, "file:///no/such")

    def test_conditions_are_kept(self):
        etag = self.store.put("a", b"1", create_only=True)
        with self.assertRaises(penstock.ExistsError):
            self.store.put("a", b"2", create_only=True)
        with self.assertRaises(penstock.PreconditionError):
            self.store.put("a", b"2", if_match='"other"')
        self.store.put("a", b"2", if_match=etag)
        with self.assertRaises(penstock.PreconditionError):
            self.store.get("a", if_match=etag)
        with self.assertRaises(penstock.PreconditionError):
            self.store.delete("a", if_match=etag)
        self.assertEqual(self.store.get("a"), b"2")

    def test_attributes_come_back(self):
        self.store.put("a", b"x", content_type="text/plain", cache_control="no-store",
                       metadata={"who": "me", "n": 3})
        told = self.store.stat("a")
        self.assertEqual((told["size"], told["content_type"]), (1, "text/plain"))
        self.assertEqual(told["metadata"], {"who": "me", "n": "3"})

    def test_verification_finds_a_wrong_checksum(self):
        self.store.put("a", b"123456789")
        self.assertEqual(self.store.get("a", verify="crc32c:e3069283"), b"123456789")
        self.assertEqual(self.store.get("a", verify=True), b"123456789")
        self.assertEqual(self.store.get_range("a", 0, 9, verify="crc32c:e3069283"), b"123456789")
        with self.assertRaises(penstock.DataLossError):
            self.store.get("a", verify="crc32c:00000000")

    def test_delete_is_exact_and_forgiving(self):
        self.store.put("foo", b"1")
        self.store.put("foobar", b"2")
        self.store.delete("foo")
        self.store.delete("foo")
        self.assertFalse(self.store.exists("foo"))
        self.assertTrue(self.store.exists("foobar"))

    def test_delete_prefix_counts(self):
        for key in ("foo", "foobar", "foo2/x", "other"):
            self.store.put(key, b"1")
        self.assertEqual(self.store.delete_prefix("foo"), 3)
        self.assertEqual([entry.key for entry in self.store.list()], ["other"])
        with self.assertRaises(penstock.InvalidArgumentError):
            self.store.delete_prefix("")

    def test_delete_many_tells_of_each_key(self):
        self.store.put("a", b"1")
        self.store.put("d/b", b"2")
        outcomes = self.store.delete_many(["a", "d", "gone"], return_exceptions=True)
        self.assertEqual(outcomes[0::2], [None, None])
        with self.assertRaises(penstock.Error) as alone:
            self.store.delete("d")
        self.assertEqual((type(outcomes[1]), str(outcomes[1]), vars(outcomes[1])),
                         (type(alone.exception), str(alone.exception), vars(alone.exception)))
        outcomes = self.store.delete_many(["d", b"d", "gone"], return_exceptions=True)
        self.assertEqual([outcome and outcome.uri for outcome in outcomes],
                         [self.store.uri + "d", self.store.uri + "d", None])
        self.assertFalse(self.store.exists("a"))
        self.assertIsNone(self.store.delete_many(iter(["d/b"])))
        self.assertIsNone(self.store.delete_many([]))
        with self.assertRaises(penstock.Error):
            self.store.delete_many(["d"])
        with self.assertRaises(TypeError):
            self.store.delete_many("abc")

    def test_copy_and_rename_stay_in_the_store(self):
        self.store.put("a", b"1", content_type="text/plain")
        self.assertIsInstance(self.store.copy("a", "b"), str)
        self.assertEqual(self.store.get("b"), b"1")
        self.store.rename("b", "c/d")
        self.assertFalse(self.store.exists("b"))
        self.assertEqual(self.store.stat("c/d")["content_type"], "text/plain")
        with self.assertRaises(penstock.ExistsError):
            self.store.copy("a", "c/d", create_only=True)
        with self.assertRaises(penstock.NotFoundError):
            self.store.copy("none", "x")

    def test_containers_are_directories(self):
        self.store.create_container("dir/sub")
        self.assertTrue(os.path.isdir(os.path.join(self.dir, "dir/sub")))
        with self.assertRaises(penstock.ExistsError):
            self.store.create_container("dir/sub/")
        with self.assertRaises(penstock.PreconditionError):
            self.store.delete_container("dir")
        self.store.delete_container("dir/sub/")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "dir/sub")))

    def test_recursive_delete_is_of_a_directory(self):
        for key in ("foo/a", "foo/s/b", "foobar", "x/y"):
            self.store.put(key, b"1")
        self.store.mkdir("foo/empty/inner")
        self.store.delete("foo", recursive=True)
        self.assertEqual([entry.key for entry in self.store.list(empty_dirs=True)],
                         ["foobar", "x/y"])
        with self.assertRaises(penstock.InvalidArgumentError):
            self.store.delete("", recursive=True)
        self.store.delete("", recursive=True, whole_store=True)
        self.assertEqual(os.listdir(self.dir), [])
        with self.assertRaises(ValueError):
            self.store.delete("a", recursive=True, if_match="x")

    def test_files_go_up_and_come_down(self):
        os.mkdir(self.dir + "/tree")
        self.write("tree/a", b"1")
        self.write("tree/s/b", b"22")
        self.assertEqual(self.store.upload(self.dir + "/tree", "up"), 2)
        self.assertEqual(self.store.get_bytes("up/tree/s/b"), b"22")
        told = []
        self.assertEqual(self.store.download("up", self.dir + "/down",
                                             progress=lambda *args: told.append(args)), 2)
        with open(self.dir + "/down/tree/s/b", "rb") as f:
            self.assertEqual(f.read(), b"22")
        self.assertEqual(told[-1], (2, 3))
        with self.assertRaises(penstock.NotFoundError):
            self.store.download("none", self.dir + "/none")

    def test_presign_is_refused_by_files(self):
        with self.assertRaises(penstock.UnsupportedOperationError):
            self.store.presign("a")

    def test_keys_are_bytes(self):
        name = os.fsdecode(b"caf\xe9 %41?#")
        self.store.put(name, b"1")
        self.assertTrue(os.path.exists(os.path.join(os.fsencode(self.dir), b"caf\xe9 %41?#")))
        self.assertEqual([entry.key for entry in self.store.list()], [name])
        self.assertEqual(self.store.get(b"caf\xe9 %41?#"), b"1")
        for key in ("../x", "a//b", "a/./b", "nul\0"):
            with self.subTest(key=key), self.assertRaises(ValueError):
                self.store.put(key, b"")

    def test_many_threads_share_it(self):
        data = os.urandom(100_000)
        self.store.put("a", data)
        errors = []

        def work():
            for _ in range(30):
                if self.store.get("a") != data or self.store.get_range("a", 5, 7) != data[5:12]:
                    errors.append("different")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])


class Endpoints(unittest.TestCase):
    def test_several_servers_of_one_store_share_the_work(self):
        with fake_s3.FakeS3() as one, fake_s3.FakeS3() as two:
            for s3 in (one, two):
                s3.objects["bucket/a"] = b"1"
            store = penstock.Store("s3://bucket/", one.options(
                endpoint=f"{one.endpoint},{two.endpoint}"))
            for _ in range(10):
                self.assertEqual(store.get("a"), b"1")
            self.assertEqual([len(s3.requests) for s3 in (one, two)], [5, 5])


class Closing(Case):
    def test_with_closes_and_later_calls_fail(self):
        with self.store as store:
            store.put("a", b"1")
        self.assertTrue(store.closed)
        self.assertIn("closed", repr(store))
        for call in (lambda: store.get("a"), store.list, store.describe, store.__enter__):
            with self.assertRaises(ValueError):
                call()
        store.close()
        self.assertEqual(penstock.get(os.path.join("file://" + self.dir, "a")), b"1")

    def test_closing_under_a_call_lets_it_end(self):
        with fake_s3.FakeS3() as s3:
            s3.is_hanging = True
            store = penstock.Store("s3://bucket/", s3.options())
            failed = []

            def wait():
                try:
                    store.get("x", timeout=1)
                except penstock.Error as error:
                    failed.append(error.code)

            thread = threading.Thread(target=wait)
            thread.start()
            s3.waiting.acquire()
            store.close()
            thread.join()
            self.assertEqual(failed, ["DEADLINE"])

    def test_views_outlive_the_store(self):
        self.store.put("a", b"0123456789" * 1000)
        view = self.store.get("a")
        self.store.close()
        del self.store
        gc.collect()
        self.assertEqual(view, b"0123456789" * 1000)


class Pickling(Case):
    def test_store_travels_by_its_configuration(self):
        self.store.put("a", b"1")
        again = pickle.loads(pickle.dumps(self.store))
        self.assertEqual(again.get("a"), b"1")
        self.assertEqual(again.options, {"root": self.dir})

    def test_attributes_of_a_subclass_travel(self):
        store = Labelled(self.store.uri, self.store.options)
        store.label, store.numbers = "mine", [1]
        again = pickle.loads(pickle.dumps(store))
        self.assertEqual((type(again), again.label, again.numbers), (Labelled, "mine", [1]))
        self.assertEqual(again.options, store.options)

    def test_secrets_do_not_travel(self):
        store = penstock.Store("s3://bucket/", {"region": "eu-west-1", "access_key_id": "the-id",
                                                "secret_access_key": "TOPSECRET"})
        same = penstock.Store("s3://bucket/", {"region": "eu-west-1"},
                              credentials={"access_key_id": "the-id", "secret_access_key": "TOPSECRET"})
        for one in (store, same):
            self.assertNotIn("TOPSECRET", repr(one.options))
            pickled = pickle.dumps(one)
            self.assertNotIn(b"TOPSECRET", pickled)
            # Half a key is an error, rather than somebody else's whole one.
            with self.assertRaisesRegex(penstock.Error, "secret_access_key") as caught:
                pickle.loads(pickled)
            self.assertIn("secrets are left out", caught.exception.__notes__[0])

    def test_passwords_in_urls_do_not_travel(self):
        for value, travels in (("http://user:HIDDEN@proxy:3128", False), ("u:HIDDEN@proxy", False),
                               ("http://user@proxy:3128", True), ("http://proxy/a:b@c", True)):
            for proxy in (value, value.encode()):
                store = penstock.Store("s3://bucket/", {"proxy": proxy, "region": "x"})
                with self.subTest(proxy=proxy):
                    self.assertEqual("proxy" in store.options, travels)
                    self.assertNotIn(b"HIDDEN", pickle.dumps(store))
        for endpoint in ("http://user:HIDDEN@host", "http://ok,http://u:HIDDEN@host"):
            with self.assertRaisesRegex(penstock.InvalidArgumentError, "host") as caught:
                penstock.Store("s3://bucket/", {"endpoint": endpoint})
            self.assertNotIn("HIDDEN", str(caught.exception))

    def test_a_copy_is_the_store_itself(self):
        store = penstock.Store("s3://bucket/", credentials={"access_key_id": "a",
                                                            "secret_access_key": "s"})
        self.assertIs(copy.copy(store), store)
        self.assertIs(copy.deepcopy({"store": store})["store"], store)

    def test_credentials_function_travels_by_name(self):
        with fake_s3.FakeS3() as s3:
            s3.objects["bucket/a"] = b"1"
            store = penstock.Store("s3://bucket/", {"endpoint": s3.endpoint},
                                   credentials=credentials_of_the_module)
            again = pickle.loads(pickle.dumps(store))
            self.assertEqual(again.get("a"), b"1")
            self.assertEqual(s3.keys, ["from-function"])

    def test_other_callables_do_not_travel(self):
        import functools
        store = penstock.Store("s3://bucket/", credentials=functools.partial(dict, x="TOPSECRET"))
        with self.assertRaises(TypeError):
            pickle.dumps(store)


class Credentials(unittest.TestCase):
    def setUp(self):
        self.s3 = fake_s3.FakeS3()
        self.addCleanup(self.s3.close)
        self.s3.objects["bucket/a"] = b"1"
        self.options = {"endpoint": self.s3.endpoint}

    def test_dict_is_used(self):
        store = penstock.Store("s3://bucket/", self.options,
                               credentials={"access_key_id": "mine", "secret_access_key": "s"})
        self.assertEqual(store.get("a"), b"1")
        self.assertEqual(self.s3.keys, ["mine"])

    def test_stores_with_different_credentials_live_side_by_side(self):
        stores = [penstock.Store("s3://bucket/", self.options, credentials={
            "access_key_id": name, "secret_access_key": "s"}) for name in ("one", "two")]
        for store in stores + stores:
            store.get("a")
        self.assertEqual(self.s3.keys, ["one", "two", "one", "two"])

    def test_callable_is_asked_once_while_its_answer_is_good(self):
        asked = []

        def ask(uri):
            asked.append((uri, threading.current_thread() is threading.main_thread()))
            return {"access_key_id": "asked", "secret_access_key": "s", "session_token": None,
                    "expires": datetime.datetime.now() + datetime.timedelta(hours=1)}

        store = penstock.Store("s3://bucket/", self.options, credentials=ask)
        for _ in range(3):
            self.assertEqual(store.get("a"), b"1")
        self.assertEqual(asked, [("s3://bucket", False)])
        self.assertEqual(set(self.s3.keys), {"asked"})

    def test_callable_that_fails_names_its_exception(self):
        def ask(uri):
            raise LookupError("the vault\nis sealed")

        store = penstock.Store("s3://bucket/", self.options, credentials=ask)
        with self.assertRaisesRegex(penstock.UnauthenticatedError, "LookupError: the vault is sealed"):
            store.get("a")

    def test_callable_that_answers_nonsense_is_an_error(self):
        for answer, why in ((None, "a dict, not NoneType"), (1, "a dict, not int"),
                            ("id:secret", "a dict, not str"), ({"access_key_id": 1}, "not int"),
                            ({1: "x"}, "not int"), ({"expires": "soon"}, "expires"),
                            ({"expires": -1}, "expires")):
            store = penstock.Store("s3://bucket/", self.options, credentials=lambda uri, a=answer: a)
            with self.subTest(answer=answer), self.assertRaisesRegex(
                    penstock.UnauthenticatedError, why):
                store.get("a")
        for answer in ({}, {"aws_access_key_id": "a", "aws_secret_access_key": "s"}):
            store = penstock.Store("s3://bucket/", self.options, credentials=lambda uri, a=answer: a)
            with self.subTest(answer=answer), self.assertRaisesRegex(
                    penstock.InvalidArgumentError, "there is no access key id"):
                store.get("a")

    def test_store_that_goes_while_its_callable_runs_is_no_harm(self):
        entered, leave = threading.Event(), threading.Event()

        def ask(uri):
            entered.set()
            leave.wait(10)
            return {"access_key_id": "late", "secret_access_key": "s"}

        store = penstock.Store("s3://bucket/", self.options, credentials=ask)
        with self.assertRaises(penstock.TimeoutError):
            store.get("a", timeout=0.1)
        self.assertTrue(entered.wait(10))
        del store
        leave.set()
        time.sleep(0.05)

    def test_store_and_callable_in_a_circle_are_collected(self):
        class Keys:
            def __call__(self, uri):
                return {"access_key_id": "x", "secret_access_key": "s"}

        keys = Keys()
        keys.store = penstock.Store("s3://bucket/", self.options, credentials=keys)
        watch = weakref.ref(keys)
        del keys
        gc.collect()
        self.assertIsNone(watch())


if __name__ == "__main__":
    unittest.main()

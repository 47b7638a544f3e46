"""get_many, get_ranges and put_many: order, errors, and that nothing is copied."""
import pathlib
import sys
import threading
import time
import unittest

import penstock
from streams import (
    BUCKET,
    Interrupted,
    WithFiles,
    WithServer,
    address_of,
    interrupt_after,
    pattern,
    wait_until,
)


class GetMany(WithFiles):
    def test_comes_in_the_order_asked_for_and_duplicates_apart(self):
        uris = [self.make(f"{i}", b"%d" % i) for i in range(7)]
        order = [uris[i] for i in (3, 0, 3, 6, 6, 1)]
        got = penstock.get_many(order)
        self.assertEqual([uri for uri, _ in got], order)
        self.assertEqual([bytes(view) for _, view in got], [b"3", b"0", b"3", b"6", b"6", b"1"])

    def test_many_small_ones_with_a_window_smaller_than_the_list(self):
        uris = [self.make(f"{i:04}", b"x%d" % i) for i in range(300)]
        got = penstock.get_many(uris, 5)
        self.assertEqual([bytes(view) for _, view in got], [b"x%d" % i for i in range(300)])

    def test_takes_any_iterable_and_gives_the_names_that_were_given(self):
        uri = self.make("a", b"aa")
        path = pathlib.Path(self.path("a"))
        got = penstock.get_many(name for name in (uri, uri.encode(), path))
        self.assertEqual([name for name, _ in got], [uri, uri, uri])
        self.assertIs(got[0][0], uri)

    def test_nothing_asked_for_is_nothing(self):
        self.assertEqual(penstock.get_many([]), [])

    def test_an_empty_object_is_an_empty_view(self):
        ((_, view),) = penstock.get_many([self.make("empty", b"")])
        self.assertEqual((len(view), bytes(view)), (0, b""))

    def test_the_first_failure_is_raised_and_names_its_object(self):
        uris = [self.make("a", b"a"), self.uri("missing"), self.make("b", b"b")]
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.get_many(uris)
        self.assertEqual(caught.exception.uri, uris[1])

    def test_exceptions_stand_in_the_place_of_their_objects(self):
        uris = [self.uri("no"), self.make("a", b"a"), self.uri("neither")]
        got = penstock.get_many(uris, return_exceptions=True)
        self.assertEqual([uri for uri, _ in got], uris)
        self.assertIsInstance(got[0][1], FileNotFoundError)
        self.assertEqual(got[0][1].uri, uris[0])
        self.assertEqual(bytes(got[1][1]), b"a")
        self.assertIsInstance(got[2][1], penstock.NotFoundError)

    def test_wrong_calls_are_refused_before_anything_is_read(self):
        uri = self.make("a", b"a")
        for error, args, kwargs in (
            (TypeError, (uri,), {}),
            (TypeError, (uri.encode(),), {}),
            (TypeError, (None,), {}),
            (TypeError, ([uri, 1],), {}),
            (ValueError, ([uri], 0), {}),
            (ValueError, ([uri], -1), {}),
            (TypeError, ([uri], "4"), {}),
            (ValueError, ([uri, "s3://bucket/key"],), {}),
            (ValueError, (["no uri"],), {}),
            (ValueError, (["nosuch://x/y"],), {}),
            (ValueError, ([uri],), {"timeout": 0}),
            (TypeError, ([uri],), {"timeout": "1"}),
            (TypeError, ([uri], 64, True), {}),
            (TypeError, ([uri],), {"unknown": 1}),
        ):
            with self.subTest(args=args, kwargs=kwargs), self.assertRaises(error):
                penstock.get_many(*args, **kwargs)

    def test_a_store_takes_keys(self):
        self.make("a", b"a")
        with penstock.Store("file:///") as store:
            key = self.path("a")[1:]
            self.assertEqual(
                [(name, bytes(view)) for name, view in store.get_many([key, key])],
                [(key, b"a")] * 2,
            )
            with self.assertRaises(penstock.NotFoundError) as caught:
                store.get_many([key + "x"])
            self.assertEqual(caught.exception.uri, self.uri("ax"))
        with self.assertRaises(ValueError):
            store.get_many([key])

    def test_the_views_outlive_the_list_and_lie_on_lines_of_the_cache(self):
        data = pattern(100_000)
        uris = [self.make(f"{i}", data) for i in range(3)]
        views = [view for _, view in penstock.get_many(uris)]
        for view in views:
            self.assertEqual(address_of(view) % 64, 0)
            self.assertEqual(address_of(view), address_of(view.memoryview()))
        first = views[0].memoryview()
        del views, view
        self.assertEqual(bytes(first), data)


class GetRanges(WithFiles):
    def test_each_comes_in_its_place(self):
        data = pattern(300_000)
        uri = self.make("a", data)
        ranges = [(10, 5), (0, 3), (250_000, None), (10, 5), (299_998, 10), (300_000, 5), (7, 0)]
        got = penstock.get_ranges(uri, ranges)
        wanted = [data[o:] if n is None else data[o : o + n] for o, n in ranges]
        self.assertEqual([bytes(view) for view in got], wanted)

    def test_nothing_asked_for_is_nothing(self):
        self.assertEqual(penstock.get_ranges(self.make("a", b"a"), []), [])

    def test_wrong_calls(self):
        uri = self.make("a", b"a")
        for error, ranges, kwargs in (
            (ValueError, [(-1, 2)], {}),
            (ValueError, [(0, -2)], {}),
            (TypeError, [("0", 2)], {}),
            (TypeError, [5], {}),
            (TypeError, ["ab"], {}),
            (ValueError, [(1, 2, 3)], {}),
            (TypeError, "ab", {}),
            (ValueError, [(0, 1)], {"max_in_flight": 0}),
            (ValueError, [(0, 1)], {"merge_gap_bytes": -1}),
        ):
            with self.subTest(ranges=ranges, kwargs=kwargs), self.assertRaises(error):
                penstock.get_ranges(uri, ranges, **kwargs)

    def test_of_a_missing_object(self):
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.get_ranges(self.uri("no"), [(0, 1)])
        self.assertEqual(caught.exception.uri, self.uri("no"))

    def test_a_store_takes_a_key(self):
        self.make("a", b"abcdef")
        store = penstock.Store("file:///")
        (view,) = store.get_ranges(self.path("a")[1:], [(1, 2)])
        self.assertEqual(bytes(view), b"bc")


class PutMany(WithFiles):
    def test_each_kind_of_buffer(self):
        view = penstock.get(self.make("source", b"of a view"))
        whole = bytearray(pattern(200_000))
        items = [
            (self.uri("bytes"), b"some bytes"),
            (self.uri("bytearray"), whole),
            (self.uri("memoryview"), memoryview(whole)[10:70_000]),
            (self.uri("view"), view),
            (self.uri("empty"), b""),
        ]
        self.assertIsNone(penstock.put_many(items))
        for uri, data in items:
            self.assertEqual(bytes(penstock.get(uri)), bytes(data))

    def test_lets_go_of_the_memory(self):
        data = bytearray(pattern(100_000))
        before = sys.getrefcount(data)
        penstock.put_many([(self.uri(f"{i}"), data) for i in range(100)], 7)
        self.assertEqual(sys.getrefcount(data), before)
        data.append(1)  # nobody looks at it any more

    def test_the_first_failure_is_raised(self):
        self.make("file", b"x")
        bad = self.uri("file/below")
        with self.assertRaises(penstock.Error) as caught:
            penstock.put_many([(self.uri("a"), b"a"), (bad, b"b")])
        self.assertEqual(caught.exception.uri, bad)

    def test_exceptions_in_their_places(self):
        self.make("file", b"x")
        items = [(self.uri("file/a"), b""), (self.uri("b"), b"b")]
        got = penstock.put_many(items, return_exceptions=True)
        self.assertIsInstance(got[0], penstock.Error)
        self.assertIsNone(got[1])
        self.assertEqual(self.content("b"), b"b")
        self.assertEqual(penstock.put_many([], return_exceptions=True), [])

    def test_wrong_calls_are_refused_before_anything_is_written(self):
        uri = self.uri("a")
        for error, items, kwargs in (
            (TypeError, [(uri, "text")], {}),
            (TypeError, [(uri, 5)], {}),
            (TypeError, [(uri, b"x"), (uri, None)], {}),
            (TypeError, [uri], {}),
            (ValueError, [(uri,)], {}),
            (TypeError, "ab", {}),
            (TypeError, 5, {}),
            (ValueError, [(uri, b"x"), ("s3://bucket/x", b"x")], {}),
            (ValueError, [(uri, b"x")], {"max_in_flight": 0}),
        ):
            with self.subTest(items=items, kwargs=kwargs), self.assertRaises(error):
                penstock.put_many(items, **kwargs)
        self.assertFalse(penstock.exists(uri))

    def test_a_store_takes_keys(self):
        store = penstock.Store("file:///")
        store.put_many([(self.path("a")[1:], b"a")])
        self.assertEqual(self.content("a"), b"a")


class OverHttp(WithServer):
    def test_several_buckets_in_one_call(self):
        self.server.add_container("other")
        uris = []
        for i in range(20):
            bucket = (BUCKET, "other")[i % 3 == 0]
            self.server.put(f"{bucket}/{i}", b"%d" % i)
            uris.append(self.s3(i, bucket))
        got = penstock.get_many(uris, return_exceptions=True)
        self.assertEqual([bytes(view) for _, view in got], [b"%d" % i for i in range(20)])
        self.assertEqual([uri for uri, _ in got], uris)

    def test_ranges_that_lie_near_share_a_request(self):
        self.server.put(f"{BUCKET}/a", pattern(200_000))
        ranges = [(i * 1000, 100) for i in range(50)]
        uri = self.s3("a")
        near = penstock.get_ranges(uri, ranges)
        n_near = len(self.requests("GET"))
        self.server.forget_log()
        apart = penstock.get_ranges(uri, ranges, merge_gap_bytes=0)
        n_apart = len(self.requests("GET"))
        self.assertEqual(near, apart)
        self.assertLess(n_near, 5)
        self.assertEqual(n_apart, 50)

    def test_errors_carry_what_the_store_said(self):
        self.server.set_faults({"on": "get", "times": 0, "fault": {"reply": "AccessDenied"}})
        ((_, error),) = penstock.get_many([self.s3("a")], return_exceptions=True)
        self.assertIsInstance(error, PermissionError)
        self.assertEqual((error.http_status, error.code), (403, "DENIED"))
        self.assertEqual(error.provider_code, "AccessDenied")
        self.assertTrue(error.request_id)

    def test_a_timeout_ends_them(self):
        self.server.put(f"{BUCKET}/a", b"a")
        self.server.set_faults({"on": "get", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        began = time.monotonic()
        with self.assertRaises(penstock.TimeoutError):
            penstock.get_many([self.s3("a")] * 3, timeout=0.3)
        self.assertLess(time.monotonic() - began, 2)

    def test_a_timeout_ends_puts_and_lets_go_of_the_memory(self):
        data = bytearray(pattern(100_000))
        self.server.set_faults({"on": "put", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        got = penstock.put_many([(self.s3("a"), data)] * 3, return_exceptions=True, timeout=0.3)
        for error in got:
            self.assertIsInstance(error, TimeoutError)

        def is_free():
            penstock.put_many([(self.uri("b"), b"b")])  # any call lets go of what came back
            try:
                data.append(1)
            except BufferError:
                return False
            return True

        self.assertTrue(wait_until(is_free))

    def test_other_threads_run_meanwhile(self):
        self.server.put(f"{BUCKET}/a", b"a")
        self.server.set_faults({"on": "get", "times": 0, "fault": {"delay_ms": 500}})
        other = threading.Thread(target=penstock.get_many, args=([self.s3("a")] * 3,))
        began = time.monotonic()
        other.start()
        n = 0
        while other.is_alive() and time.monotonic() - began < 5:
            time.sleep(0.001)
            n += 1
        other.join()
        self.assertGreater(n, 50)

    def test_a_store_with_credentials_of_its_own(self):
        self.store_that_asks().put_many([(f"{i}", b"%d" % i) for i in range(5)])
        got = self.store_that_asks().get_many([f"{i}" for i in range(5)])
        self.assertEqual([bytes(view) for _, view in got], [b"%d" % i for i in range(5)])
        (view,) = self.store_that_asks().get_ranges("3", [(0, 1)])
        self.assertEqual(bytes(view), b"3")

    def test_a_signal_ends_a_get_within_a_second(self):
        self.server.put(f"{BUCKET}/a", b"a")
        self.server.set_faults({"on": "get", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        began = time.monotonic()
        with self.assertRaises(Interrupted), interrupt_after(0.2):
            penstock.get_many([self.s3("a")] * 5)
        self.assertLess(time.monotonic() - began, 1.2)

    def test_a_signal_ends_a_put_within_a_second_and_the_rest_is_not_sent(self):
        self.server.set_faults({"on": "put", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        began = time.monotonic()
        with self.assertRaises(Interrupted), interrupt_after(0.2):
            penstock.put_many([(self.s3(f"{i}"), b"x" * 1000) for i in range(20)], 4)
        self.assertLess(time.monotonic() - began, 1.2)
        self.assertLessEqual(len(self.requests("PUT")), 4)

    def test_puts_stop_at_the_first_failure(self):
        self.server.set_faults({"on": "put", "times": 0, "fault": {"reply": "AccessDenied"}})
        with self.assertRaises(penstock.PermissionDeniedError):
            penstock.put_many([(self.s3(f"{i}"), b"x") for i in range(50)], 2)
        self.assertLess(len(self.requests("PUT")), 10)


if __name__ == "__main__":
    unittest.main()

"""Objects as files to read."""
import array
import io
import pickle
import shutil
import threading
import time
import unittest
import zipfile

import penstock
from streams import (
    BUCKET,
    MIB,
    Interrupted,
    WithFiles,
    WithServer,
    in_child,
    interrupt_after,
    pattern,
)

DATA = pattern(300_000)


class Reading(WithFiles):
    def setUp(self):
        super().setUp()
        self.name = self.make("a", DATA)

    def test_is_a_raw_binary_file(self):
        with penstock.open_reader(self.name) as file:
            self.assertIsInstance(file, io.RawIOBase)
            self.assertTrue(file.readable())
            self.assertTrue(file.seekable())
            self.assertFalse(file.writable())
            self.assertEqual((file.name, file.mode, file.closed), (self.name, "rb", False))
        self.assertTrue(file.closed)

    def test_all_of_it(self):
        for readahead in (True, False):
            with penstock.open_reader(self.name, readahead=readahead) as file:
                self.assertEqual(file.read(), DATA)
                self.assertEqual(file.tell(), len(DATA))
                self.assertEqual(file.read(), b"")
                self.assertEqual(file.read(5), b"")
        with penstock.open_reader(self.name) as file:
            self.assertEqual(file.readall(), DATA)

    def test_some_of_it_at_a_time(self):
        for step in (1000, 65_536, 65_537, 299_999, 300_000, 10**9):
            with self.subTest(step), penstock.open_reader(self.name, part_bytes=4096) as file:
                pieces = list(iter(lambda: file.read(step), b""))
                self.assertEqual(b"".join(pieces), DATA)
                self.assertEqual({len(piece) for piece in pieces[:-1]} - {step}, set())

    def test_small_objects(self):
        for data in (b"", b"x", DATA[:65_535], DATA[:65_536], DATA[:65_537]):
            name = self.make("small", data)
            for size in (-1, 1, 65_536, 200_000):
                with self.subTest(len=len(data), size=size):
                    with penstock.open_reader(name) as file:
                        self.assertEqual(file.read(size), data if size < 0 else data[:size])
                        self.assertEqual(file.read(0), b"")
                        self.assertEqual(file.read(), b"" if size < 0 else data[size:])

    def test_into_buffers_of_the_caller(self):
        with penstock.open_reader(self.name) as file:
            whole = bytearray(400_000)
            self.assertEqual(file.readinto(whole), len(DATA))
            self.assertEqual(whole[: len(DATA)], DATA)
            self.assertEqual(file.readinto(whole), 0)
            file.seek(4)
            words = array.array("I", [0] * 10)
            self.assertEqual(file.readinto(words), 40)
            self.assertEqual(words.tobytes(), DATA[4:44])
            with self.assertRaises((TypeError, BufferError)):
                file.readinto(b"read-only")
            with self.assertRaises(TypeError):
                file.readinto(5)

    def test_seeking(self):
        with penstock.open_reader(self.name) as file:
            self.assertEqual(file.seek(1000), 1000)
            self.assertEqual(file.read(4), DATA[1000:1004])
            self.assertEqual(file.seek(-4, io.SEEK_CUR), 1000)
            self.assertEqual(file.read(8), DATA[1000:1008])
            self.assertEqual(file.seek(-10, io.SEEK_END), len(DATA) - 10)
            self.assertEqual(file.read(), DATA[-10:])
            self.assertEqual(file.seek(0), 0)
            self.assertEqual(file.read(10), DATA[:10])
            self.assertEqual(file.seek(len(DATA) + 5), len(DATA) + 5)
            self.assertEqual(file.read(10), b"")
            self.assertEqual(file.size(), len(DATA))

    def test_beyond_the_end_of_an_object_of_unknown_length(self):
        with penstock.open_reader(self.name) as file:
            file.seek(400_000)
            self.assertEqual(file.read(10), b"")
            file.seek(0)
            self.assertEqual(file.read(), DATA)

    def test_no_such_place(self):
        with penstock.open_reader(self.name) as file:
            for args in ((-1,), (-1, 1), (-300_001, 2), (0, 3), (2**63 - 1, 2)):
                with self.subTest(args), self.assertRaises(ValueError):
                    file.seek(*args)
            with self.assertRaises(TypeError):
                file.seek("0")
            self.assertEqual(file.tell(), 0)

    def test_steps_forward_in_the_midst_of_a_stream(self):
        with penstock.open_reader(self.name) as file:
            at = 0
            for step in (10, 5000, 1, 70_000, 0, 100_000):
                self.assertEqual(file.read(100), DATA[at : at + 100])
                at = file.seek(step, io.SEEK_CUR)

    def test_a_closed_one(self):
        file = penstock.open_reader(self.name)
        file.close()
        file.close()
        for call in (file.read, file.tell, file.readall, file.readable, file.size,
                     lambda: file.readinto(bytearray(1)), lambda: file.seek(0)):
            with self.assertRaises(ValueError):
                call()

    def test_a_missing_object_shows_with_the_first_read(self):
        with penstock.open_reader(self.uri("no")) as file:
            with self.assertRaises(FileNotFoundError) as caught:
                file.read()
            self.assertEqual(caught.exception.uri, self.uri("no"))
            with self.assertRaises(penstock.NotFoundError):
                file.seek(0, io.SEEK_END)
            self.make("no", b"there now")
            self.assertEqual(file.read(), b"there now")

    def test_wrong_calls(self):
        for error, args, kwargs in (
            (TypeError, (5,), {}),
            (ValueError, ("no uri",), {}),
            (ValueError, (self.name,), {"part_bytes": 5}),
            (ValueError, (self.name,), {"max_in_flight": 0}),
            (ValueError, (self.name,), {"max_in_flight": 65}),
            (ValueError, (self.name,), {"decode": "gzip"}),
            (ValueError, (self.name,), {"decode": "never"}),
            (TypeError, (self.name,), {"decode": 1}),
            (ValueError, (self.name,), {"timeout": -1}),
            (TypeError, (self.name,), {"unknown": 1}),
        ):
            with self.subTest(args=args, kwargs=kwargs), self.assertRaises(error):
                penstock.open_reader(*args, **kwargs)
        with penstock.open_reader(self.name) as file:
            for size in ("5", 5.0):
                with self.assertRaises(TypeError):
                    file.read(size)

    def test_does_not_write(self):
        with penstock.open_reader(self.name) as file:
            self.assertFalse(file.writable())
            for call in (lambda: file.write(b""), lambda: file.writelines([b"x"])):
                with self.assertRaisesRegex(io.UnsupportedOperation, "not open for writing"):
                    call()
        with self.assertRaises(ValueError):
            file.write(b"")

    def test_a_store_takes_a_key(self):
        store = penstock.Store("file:///")
        with store.open_reader(self.path("a")[1:]) as file:
            store.close()  # the reader has it still
            self.assertEqual(file.read(10), DATA[:10])
            self.assertEqual(file.name, self.name)

    def test_goes_on_in_a_fork_child(self):
        with penstock.open_reader(self.name, part_bytes=4096) as file:
            self.assertEqual(file.read(5000), DATA[:5000])

            def read_on():
                self.assertEqual(file.read(), DATA[5000:])

            self.assertEqual(in_child(read_on), 0)
            self.assertEqual(file.read(), DATA[5000:])


class Opening(WithFiles):
    def test_buffered_unless_told_otherwise(self):
        name = self.make("a", b"first\nsecond\nthird")
        with penstock.open(name) as file:
            self.assertIsInstance(file, io.BufferedReader)
            self.assertEqual(file.readlines(), [b"first\n", b"second\n", b"third"])
        with penstock.open(name, "rb", 0) as file:
            self.assertIsInstance(file, penstock.Reader)
            self.assertEqual(file.readline(), b"first\n")
        with io.TextIOWrapper(penstock.open(name)) as file:
            self.assertEqual(next(file), "first\n")

    def test_serves_who_reads_files(self):
        with zipfile.ZipFile(self.path("z"), "w") as archive:
            archive.writestr("one", DATA)
            archive.writestr("two", b"two")
        with penstock.open(self.uri("z")) as file, zipfile.ZipFile(file) as archive:
            self.assertEqual(archive.read("two"), b"two")
            self.assertEqual(archive.read("one"), DATA)
        with penstock.open(self.make("p", pickle.dumps({"a": DATA}))) as file:
            self.assertEqual(pickle.load(file), {"a": DATA})
        target = io.BytesIO()
        with penstock.open(self.make("a", DATA)) as file:
            shutil.copyfileobj(file, target)
        self.assertEqual(target.getvalue(), DATA)

    def test_modes(self):
        for mode in ("a", "ab", "rb+", "bb", "", "rwb"):
            with self.subTest(mode), self.assertRaises(ValueError):
                penstock.open(self.uri("a"), mode)
        with self.assertRaises(TypeError):
            penstock.open(self.uri("a"), 1)
        with self.assertRaises(TypeError):
            penstock.open(self.uri("a"), buffering="1")


class Compressed(WithFiles):
    def test_is_decompressed_when_asked_for(self):
        options = penstock.WriterOptions().with_compression("zstd", 1)
        with penstock.create_filesystem_writer(self.uri("a"), options) as writer:
            writer.write(DATA * 10)
        name = self.uri("a.zst")
        for decode in ("zstd", "name"):
            with penstock.open_reader(name, decode=decode) as file:
                self.assertFalse(file.seekable())
                with self.assertRaises(io.UnsupportedOperation):
                    file.seek(0)
                self.assertEqual(file.read(10), DATA[:10])
                self.assertEqual(file.read(), (DATA * 10)[10:])
                self.assertEqual(file.read(), b"")
        with penstock.open_reader(name) as file:
            self.assertEqual(file.read(), self.content("a.zst"))
        with penstock.open(name, decode="zstd") as file:
            self.assertEqual(file.read(), DATA * 10)

    def test_what_is_no_zstd_is_data_loss(self):
        with penstock.open_reader(self.make("b", b"not zstd"), decode="zstd") as file:
            with self.assertRaises(penstock.DataLossError):
                file.read()


class OverHttp(WithServer):
    def ranges(self):
        return [one["headers"].get("range") for one in self.requests("GET")]

    def test_after_a_seek_only_what_is_wanted_is_asked_for(self):
        self.server.put(f"{BUCKET}/a", pattern(MIB))
        with penstock.open_reader(self.s3("a")) as file:
            file.seek(1000)
            file.read(100)
            file.seek(500_000)
            file.read(10)
        self.assertEqual(self.ranges(), ["bytes=1000-1099", "bytes=500000-500009"])

    def test_reads_in_a_row_take_few_requests_and_no_head(self):
        data = pattern(MIB)
        self.server.put(f"{BUCKET}/a", data)
        with penstock.open_reader(self.s3("a")) as file:
            self.assertEqual(b"".join(iter(lambda: file.read(1000), b"")), data)
        self.assertLess(len(self.ranges()), 20)
        self.assertEqual(self.requests("HEAD"), [])

    def test_the_size_is_asked_for_once(self):
        self.server.put(f"{BUCKET}/a", pattern(1000))
        with penstock.open_reader(self.s3("a")) as file:
            for _ in range(3):
                self.assertEqual(file.seek(-8, 2), 992)
            self.assertEqual(file.read(8), pattern(1000)[-8:])
        self.assertEqual(len(self.requests("HEAD")), 1)

    def test_an_object_that_was_replaced_is_noticed(self):
        for first in (0, 5000):
            self.server.put(f"{BUCKET}/a", pattern(MIB))
            with penstock.open_reader(self.s3("a"), readahead=False) as file:
                file.seek(first)
                file.read(100)
                self.server.put(f"{BUCKET}/a", pattern(MIB, 2))
                with self.assertRaises(penstock.ChangedError):
                    file.seek(500_000)
                    file.read(100)

    def test_a_signal_ends_a_read_which_can_be_made_again(self):
        data = pattern(1000)
        for first in (0, 10):
            self.server.put(f"{BUCKET}/a", data)
            self.server.set_faults(
                {"on": "get", "times": 1, "fault": {"stall": {"at": "before_head"}}}
            )
            with penstock.open_reader(self.s3("a")) as file:
                file.seek(first)
                began = time.monotonic()
                with self.assertRaises(Interrupted), interrupt_after(0.2):
                    file.read(100)
                self.assertLess(time.monotonic() - began, 1.2)
                self.assertEqual(file.tell(), first)
                self.assertEqual(file.read(), data[first:])

    def test_a_timeout_is_that_of_each_call(self):
        self.server.put(f"{BUCKET}/a", b"data")
        self.server.set_faults({"on": "get", "times": 1, "fault": {"stall": {"at": "before_head"}}})
        with penstock.open_reader(self.s3("a"), timeout=0.3) as file:
            with self.assertRaises(TimeoutError):
                file.read()
            self.assertEqual(file.read(), b"data")

    def test_keeps_its_store(self):
        self.server.put(f"{BUCKET}/a", b"data")
        with self.store_that_asks().open_reader("a") as file:
            self.assertEqual(file.read(2), b"da")
            file.seek(2)
            self.assertEqual(file.read(), b"ta")
        with self.store_that_asks() as store:
            file = store.open_reader("a")
        self.assertEqual(file.read(), b"data")

    def test_two_threads_at_once_are_refused(self):
        self.server.put(f"{BUCKET}/a", b"data")
        self.server.set_faults({"on": "get", "times": 1, "fault": {"delay_ms": 1000}})
        with penstock.open_reader(self.s3("a")) as file:
            got = []
            other = threading.Thread(target=lambda: got.append(file.read()))
            other.start()
            while not self.requests("GET"):
                time.sleep(0.01)
            for call in (file.read, file.close, lambda: file.seek(0)):
                with self.assertRaisesRegex(ValueError, "another thread"):
                    call()
            other.join()
            self.assertEqual(got, [b"data"])


if __name__ == "__main__":
    unittest.main()

"""Writers: what is published, what is dropped, and what is copied."""
import gc
import io
import pathlib
import pickle
import subprocess
import sys
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
    address_of,
    in_child,
    interrupt_after,
    pattern,
    wait_until,
)

DATA = pattern(300_000)


class Writing(WithFiles):
    def test_publishes_with_finalize(self):
        writer = penstock.create_filesystem_writer(self.uri("a"))
        self.assertIsInstance(writer, penstock.ObjectWriter)
        self.assertEqual(writer.uri, self.uri("a"))
        self.assertIsNone(writer.write_chunk(b"123"))
        self.assertEqual(writer.write(memoryview(b"456")), 3)
        writer.write_owned_bytes(bytearray(b"789"))
        self.assertFalse(penstock.exists(self.uri("a")))
        self.assertFalse(writer.closed)
        self.assertEqual(writer.finalize(), (9, 9))
        self.assertTrue(writer.closed)
        self.assertEqual(self.content("a"), b"123456789")
        self.assertEqual(writer.finalize(), (9, 9))
        self.assertEqual(writer.bytes_written(), 9)
        self.assertEqual(writer.compressed_bytes(), 9)
        self.assertEqual(writer.checksum(), "crc32c:e3069283")
        self.assertTrue(writer.etag)
        self.assertEqual(writer.parts, 1)

    def test_an_empty_object(self):
        with penstock.open_writer(self.uri("a")) as writer:
            writer.write(b"")
        self.assertEqual(self.content("a"), b"")
        self.assertEqual(writer.checksum(), "crc32c:00000000")

    def test_each_kind_of_memory_and_size(self):
        for size in (1, 1000, 65_536, 200_000, 3 * MIB):
            data = pattern(size)
            view = penstock.get(self.make("source", data))
            with penstock.open_writer(self.uri("a"), part_bytes=MIB) as writer:
                for chunk in (data, bytearray(data), memoryview(data), view, view.memoryview()):
                    writer.write(chunk)
                    writer.write_owned_bytes(chunk)
                    writer.write_owned_bytes(chunk, copy=True)
            self.assertEqual(self.content("a"), data * 15)
            self.assertEqual(writer.bytes_written(), size * 15)

    def test_what_is_written_may_change_afterwards(self):
        data = bytearray(DATA)
        with penstock.open_writer(self.uri("a")) as writer:
            writer.write(data)
            data[:] = bytes(len(data))
            writer.write(data)
        self.assertEqual(self.content("a"), DATA + bytes(len(DATA)))

    def test_lets_go_of_the_memory(self):
        data = bytearray(DATA)
        with penstock.open_writer(self.uri("a")) as writer:
            for _ in range(5):
                writer.write_owned_bytes(data)
            with self.assertRaises(BufferError):
                data.append(1)  # it is on its way
        data.append(1)

    def test_the_checksum_runs_along(self):
        with penstock.open_writer(self.uri("a")) as writer:
            self.assertEqual(writer.checksum(), "crc32c:00000000")
            writer.write(b"1234")
            writer.write(b"56789")
            self.assertEqual(writer.checksum(), "crc32c:e3069283")

    def test_an_exception_in_the_block_drops_it(self):
        with self.assertRaises(KeyError):
            with penstock.open_writer(self.uri("a")) as writer:
                writer.write(DATA)
                raise KeyError
        self.assertTrue(writer.closed)
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])

    def test_the_last_reference_gone_drops_it(self):
        writer = penstock.open_writer(self.uri("a"))
        writer.write(DATA)
        del writer
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])

    def test_cancel_drops_it_and_may_be_repeated(self):
        writer = penstock.open_writer(self.uri("a"))
        writer.write(DATA)
        writer.cancel()
        writer.cancel()
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])
        for call in (writer.finalize, lambda: writer.write(b"x"), lambda: writer.reserve(1)):
            with self.assertRaises(ValueError):
                call()

    def test_a_finalized_one_takes_nothing_more(self):
        with penstock.open_writer(self.uri("a")) as writer:
            writer.write(b"a")
        for call in (
            lambda: writer.write(b"x"),
            lambda: writer.write_owned_bytes(b"x"),
            lambda: writer.reserve(1),
            lambda: writer.commit(1),
            writer.cancel,
            writer.__enter__,
        ):
            with self.assertRaises(penstock.InvalidArgumentError) as caught:
                call()
            self.assertEqual(caught.exception.uri, self.uri("a"))
        self.assertEqual(self.content("a"), b"a")

    def test_finalized_within_the_block(self):
        with penstock.open_writer(self.uri("a")) as writer:
            writer.write(b"a")
            writer.finalize()
        self.assertEqual(self.content("a"), b"a")

    def test_wrong_calls(self):
        uri = self.uri("a")
        for error, args, kwargs in (
            (TypeError, (5,), {}),
            (ValueError, ("no uri",), {}),
            (ValueError, (uri,), {"part_bytes": 0}),
            (ValueError, (uri,), {"max_in_flight": 0}),
            (ValueError, (uri,), {"compression_level": 0}),
            (ValueError, (uri,), {"compression_level": 23}),
            (TypeError, (uri,), {"compression_level": "3"}),
            (TypeError, (uri,), {"metadata": 5}),
            (TypeError, (uri,), {"content_type": 5}),
            (ValueError, (uri,), {"checksum": "crc16"}),
            (ValueError, (uri,), {"timeout": 0}),
            (TypeError, (uri,), {"unknown": 1}),
        ):
            with self.subTest(args=args, kwargs=kwargs), self.assertRaises(error):
                penstock.open_writer(*args, **kwargs)
        with penstock.open_writer(uri) as writer:
            for data in ("text", 5, None, [1, 2]):
                with self.subTest(data), self.assertRaises(TypeError):
                    writer.write(data)
        with self.assertRaises(TypeError):
            penstock.ObjectWriter()

    def test_create_only(self):
        self.make("a", b"old")
        with self.assertRaises(FileExistsError):
            with penstock.open_writer(self.uri("a"), create_only=True) as writer:
                writer.write(b"new")
        self.assertEqual(self.content("a"), b"old")

    def test_a_store_takes_a_key(self):
        store = penstock.Store("file:///")
        with store.open_writer(self.path("a")[1:]) as writer:
            writer.write(b"a")
        self.assertEqual(writer.uri, self.uri("a"))
        self.assertEqual(self.content("a"), b"a")


class Reserving(WithFiles):
    def test_lends_memory_of_exactly_that_size(self):
        with penstock.open_writer(self.uri("a")) as writer:
            for size in (1, 100, 5 * MIB):
                memory = writer.reserve(size)
                self.assertEqual((len(memory), memory.readonly), (size, False))
                self.assertEqual(address_of(memory) % 64, 0)
                memory[:] = pattern(size)
                writer.commit(size)
                with self.assertRaises(ValueError):
                    memory[0]  # it was taken back
        self.assertEqual(self.content("a"), pattern(1) + pattern(100) + pattern(5 * MIB))

    def test_a_part_of_it(self):
        with penstock.open_writer(self.uri("a")) as writer:
            writer.reserve(100)[:3] = b"abc"
            writer.commit(3)
            writer.reserve(100)
            writer.commit(0)
            writer.reserve(2)[:] = b"de"
            writer.commit()
        self.assertEqual(self.content("a"), b"abcde")

    def test_what_still_looks_at_it_cannot_change_what_was_committed(self):
        with penstock.open_writer(self.uri("a")) as writer:
            memory = writer.reserve(len(DATA))
            other = memory[:]
            other[:] = DATA
            writer.commit(len(DATA))
            other[:] = bytes(len(DATA))
        self.assertEqual(self.content("a"), DATA)

    def test_is_given_back_by_any_other_call(self):
        with penstock.open_writer(self.uri("a")) as writer:
            memory = writer.reserve(5)
            memory[:] = b"lost!"
            writer.write(b"kept")
            with self.assertRaises(ValueError):
                writer.commit(5)
            memory[:] = b"still"  # harmless
            writer.reserve(1)
        self.assertEqual(self.content("a"), b"kept")

    def test_wrong_calls(self):
        with penstock.open_writer(self.uri("a")) as writer:
            for error, size in ((ValueError, 0), (ValueError, -1), (TypeError, "1")):
                with self.assertRaises(error):
                    writer.reserve(size)
            with self.assertRaises(ValueError):
                writer.commit(1)
            writer.reserve(5)
            for error, size in ((ValueError, 6), (ValueError, -1), (TypeError, "1")):
                with self.assertRaises(error):
                    writer.commit(size)
            writer.commit(5)


class Options(WithFiles):
    def test_compression(self):
        options = penstock.WriterOptions()
        options.with_compression("zstd", level=9)  # changes it in place, and returns it
        writer = penstock.create_filesystem_writer(self.uri("a"), options)
        writer.write_chunk(b"abc" * 100_000)
        self.assertEqual(writer.bytes_written(), 300_000)
        self.assertIsNone(writer.compressed_bytes())
        written, stored = writer.finalize()
        self.assertEqual(written, 300_000)
        self.assertEqual(stored, len(self.content("a.zst")))
        self.assertEqual(writer.compressed_bytes(), stored)
        self.assertLess(stored, 3000)
        self.assertEqual(writer.uri, self.uri("a.zst"))

    def test_the_name_is_not_extended_twice(self):
        options = penstock.WriterOptions().with_compression("zstd")
        with penstock.create_filesystem_writer(self.uri("a.zst"), options) as writer:
            writer.write(b"a")
        self.assertEqual(writer.uri, self.uri("a.zst"))

    def test_wrong_ones(self):
        options = penstock.WriterOptions()
        for error, args in (
            (ValueError, ("gzip",)),
            (ValueError, ("lz4", 3)),
            (ValueError, ("zstd", 0)),
            (ValueError, ("zstd", 23)),
            (TypeError, ("zstd", "3")),
            (TypeError, (3,)),
        ):
            with self.subTest(args), self.assertRaises(error):
                options.with_compression(*args)
        for error, size in ((ValueError, 0), (ValueError, -1), (TypeError, "1"), (TypeError, True)):
            with self.subTest(size), self.assertRaises(error):
                options.with_buffer_size(size)
        self.assertIsNone(options.compression)
        with self.assertRaises(TypeError):
            penstock.create_filesystem_writer(self.uri("a"), {"compression": "zstd"})

    def test_a_buffer_size_within_what_the_store_takes(self):
        options = penstock.WriterOptions().with_buffer_size(1000)
        with penstock.create_filesystem_writer(self.uri("a"), options) as writer:
            for _ in range(10):
                writer.write(pattern(999))
        self.assertEqual(self.content("a"), pattern(999) * 10)

    def test_each_creator_takes_its_own_schemes(self):
        for create, uri in (
            (penstock.create_filesystem_writer, "s3://bucket/key"),
            (penstock.create_s3_writer, self.uri("a")),
            (penstock.create_direct_filesystem_writer, "s3://bucket/key"),
            (penstock.create_azure_writer, self.uri("a")),
            (penstock.create_filesystem_writer, "a"),
        ):
            with self.subTest(uri), self.assertRaises(ValueError):
                create(uri)
        with penstock.create_filesystem_writer(pathlib.Path(self.path("a"))) as writer:
            writer.write(b"a")
        self.assertEqual(self.content("a"), b"a")

    def test_a_file_past_the_page_cache(self):
        for uri in (self.uri("a"), "direct://" + self.path("b")):
            with penstock.create_direct_filesystem_writer(uri) as writer:
                writer.write(DATA)
                memory = writer.reserve(MIB)
                memory[:] = pattern(MIB)
                writer.commit(MIB)
                writer.write(b"end")
            self.assertTrue(writer.uri.startswith("direct:///"))
            self.assertEqual(self.content(uri[-1]), DATA + pattern(MIB) + b"end")

    def test_azure_names_the_missing_plugin(self):
        for uri in ("az://container/key", "abfss://container@account.dfs.core.windows.net/key"):
            with self.assertRaisesRegex(penstock.UnsupportedOperationError, "'azure'") as caught:
                penstock.create_azure_writer(uri)
            self.assertEqual(caught.exception.uri, uri)


class Files(WithFiles):
    def test_closing_publishes(self):
        with penstock.open(self.uri("a"), "wb") as file:
            self.assertIsInstance(file, io.RawIOBase)
            self.assertTrue(file.writable())
            self.assertFalse(file.readable() or file.seekable())
            self.assertEqual(file.write(b"abc"), 3)
            file.flush()
            file.writelines([b"d", b"e"])
            self.assertEqual(file.tell(), 5)
            self.assertFalse(penstock.exists(self.uri("a")))
        self.assertTrue(file.closed)
        self.assertEqual(self.content("a"), b"abcde")
        file.close()
        with self.assertRaises(ValueError):
            file.write(b"x")

    def test_an_exception_drops(self):
        with self.assertRaises(KeyError), penstock.open(self.uri("a"), "wb") as file:
            file.write(b"abc")
            raise KeyError
        self.assertTrue(file.closed)
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])

    def test_the_last_reference_gone_drops(self):
        file = penstock.open(self.uri("a"), "wb")
        file.write(b"abc")
        del file
        gc.collect()
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])

    def test_discard(self):
        file = penstock.open(self.uri("a"), "wb")
        file.write(b"abc")
        file.discard()
        file.discard()
        self.assertTrue(file.closed)
        self.assertEqual(list(pathlib.Path(self.directory).iterdir()), [])

    def test_must_not_exist_yet(self):
        with penstock.open(self.uri("a"), "xb") as file:
            file.write(b"first")
        file = penstock.open(self.uri("a"), "xb")
        file.write(b"second")
        with self.assertRaises(FileExistsError):
            file.close()
        self.assertTrue(file.closed)
        self.assertEqual(self.content("a"), b"first")

    def test_does_not_read(self):
        with penstock.open(self.uri("a"), "wb") as file:
            self.assertFalse(file.readable())
            for call in (file.read, file.readall, file.readline, file.readlines,
                         lambda: file.read(5), lambda: file.readinto(bytearray(5))):
                with self.assertRaisesRegex(io.UnsupportedOperation, "not open for reading"):
                    call()
        with self.assertRaises(ValueError):
            file.read()

    def test_serves_who_writes_files(self):
        with penstock.open(self.uri("z"), "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("one", DATA)
        with zipfile.ZipFile(self.path("z")) as archive:
            self.assertEqual(archive.read("one"), DATA)
        with penstock.open(self.uri("p"), "wb") as file:
            pickle.dump({"a": DATA}, file)
        self.assertEqual(pickle.loads(self.content("p")), {"a": DATA})


class OverHttp(WithServer):
    def start(self, **options):
        """A writer with parts on their way."""
        writer = penstock.open_writer(self.s3("a"), part_bytes=5 * MIB, **options)
        for _ in range(3):
            writer.write(pattern(5 * MIB))
        self.assertTrue(wait_until(self.server.uploads))
        return writer

    def test_an_upload_in_parts(self):
        writer = self.start(
            content_type="text/x-test",
            content_encoding="x-mine",
            cache_control="no-store",
            metadata={"who": "me"},
        )
        self.assertEqual(writer.finalize(), (15 * MIB, 15 * MIB))
        self.assertEqual(writer.parts, 3)
        self.assertEqual(self.server.get(f"{BUCKET}/a"), pattern(5 * MIB) * 3)
        self.assertEqual(self.server.uploads(), [])
        attributes = penstock.stat(self.s3("a"))
        self.assertEqual(attributes["content_type"], "text/x-test")
        self.assertEqual(attributes["content_encoding"], "x-mine")
        self.assertEqual(attributes["cache_control"], "no-store")
        self.assertEqual(attributes["metadata"], {"who": "me"})

    def test_nothing_is_left_of_one_that_was_dropped(self):
        self.start().cancel()
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        with self.assertRaises(KeyError):
            with self.start():
                raise KeyError
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        writer = self.start()
        del writer
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        self.assertEqual(self.server.objects(), [])

    def test_nothing_is_left_when_the_interpreter_exits(self):
        for ending in ("", "sys.exit(3)", "1 / 0", "del writer"):
            with self.subTest(ending):
                code = (
                    "import sys, penstock\n"
                    f"writer = penstock.open_writer({self.s3('a')!r}, part_bytes=5 << 20)\n"
                    "keep = [writer]; keep.append(keep)\n"
                    "for _ in range(3): writer.write(bytes(5 << 20))\n" + ending
                )
                done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True,
                                      timeout=60, text=True)
                self.assertGreaterEqual(done.returncode, 0, done.stderr)
                self.assertTrue(self.requests("POST"))
                self.assertEqual(self.server.uploads(), [])
                self.assertEqual(self.server.objects(), [])
                self.server.forget_log()

    def test_nothing_is_left_when_it_exits_while_a_thread_writes(self):
        self.server.set_faults(
            {"on": "upload_part", "times": 0, "fault": {"stall": {"at": "before_head"}}}
        )
        code = (
            "import threading, time, penstock\n"
            f"writer = penstock.open_writer({self.s3('a')!r}, part_bytes=5 << 20)\n"
            "def work():\n"
            "    while True: writer.write(bytes(5 << 20))\n"
            "threading.Thread(target=work, daemon=True).start()\n"
            "time.sleep(1)\n"
        )
        done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, timeout=60,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(wait_until(lambda: not self.server.uploads()))

    def test_a_signal_ends_a_write_within_a_second_and_nothing_is_left(self):
        self.server.set_faults(
            {"on": "upload_part", "times": 0, "fault": {"stall": {"at": "before_head"}}}
        )
        with self.assertRaises(Interrupted):
            with penstock.open_writer(self.s3("a"), part_bytes=5 * MIB) as writer:
                with interrupt_after(0.5):
                    began = time.monotonic()
                    while True:
                        writer.write(bytes(5 * MIB))
        self.assertLess(time.monotonic() - began, 2.5)
        self.assertTrue(writer.closed)
        self.assertTrue(wait_until(lambda: not self.server.uploads()))

    def test_the_timeout_is_that_of_each_call(self):
        self.server.set_faults({"on": "put", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        with self.assertRaises(TimeoutError) as caught:
            with penstock.open_writer(self.s3("a"), timeout=0.3) as writer:
                writer.write(b"x")
        self.assertEqual(caught.exception.uri, self.s3("a"))
        self.assertTrue(writer.closed)

    def test_nothing_is_left_of_an_upload_that_was_still_being_opened(self):
        self.server.set_faults({"on": "upload_open", "times": 0, "fault": {"delay_ms": 2500}})
        with self.assertRaises(TimeoutError):
            with penstock.open_writer(self.s3("a"), part_bytes=5 * MIB, timeout=0.1) as writer:
                for _ in range(3):
                    writer.write(pattern(5 * MIB))
        self.assertTrue(wait_until(lambda: self.requests("DELETE")))
        self.assertTrue(wait_until(lambda: not self.server.uploads()))

    def test_nothing_is_left_of_it_when_the_interpreter_exits_before_the_reply(self):
        self.server.set_faults({"on": "upload_open", "times": 0, "fault": {"delay_ms": 2500}})
        code = (
            "import penstock\n"
            f"writer = penstock.open_writer({self.s3('a')!r}, part_bytes=5 << 20, timeout=0.1)\n"
            "try:\n"
            "    for _ in range(3): writer.write(bytes(5 << 20))\n"
            "except TimeoutError:\n"
        )
        for ending in ("    writer.cancel()", "    pass"):
            with self.subTest(ending):
                self.server.forget_log()
                subprocess.run([sys.executable, "-B", "-c", code + ending], check=True, timeout=60)
                self.assertTrue(self.requests("DELETE"))
                self.assertEqual(self.server.uploads(), [])

    def test_a_failure_stays(self):
        self.server.set_faults({"on": "upload_part", "times": 0, "fault": {"reply": "AccessDenied"}})
        with self.assertRaises(PermissionError):
            with penstock.open_writer(self.s3("a"), part_bytes=5 * MIB) as writer:
                with self.assertRaises(PermissionError):
                    for _ in range(100):
                        writer.write(bytes(5 * MIB))
                writer.write(b"x")
        self.assertTrue(wait_until(lambda: not self.server.uploads()))

    def test_keeps_its_store(self):
        with self.store_that_asks().open_writer("a") as writer:
            writer.write(b"da")
            writer.reserve(2)[:] = b"ta"
            writer.commit()
        self.assertEqual(self.server.get(f"{BUCKET}/a"), b"data")

    def test_is_the_parents_after_a_fork(self):
        writer = self.start()

        def use():
            nonlocal writer
            with self.assertRaises(penstock.ForkedError):
                writer.write(b"x")
            with self.assertRaises(penstock.ForkedError):
                writer.finalize()
            writer.cancel()
            del writer

        self.assertEqual(in_child(use), 0)
        self.assertEqual(len(self.server.uploads()), 1)
        self.assertEqual(writer.finalize(), (15 * MIB, 15 * MIB))
        self.assertEqual(self.server.get(f"{BUCKET}/a"), pattern(5 * MIB) * 3)

    def test_two_threads_at_once_are_refused(self):
        self.server.set_faults({"on": "put", "times": 1, "fault": {"delay_ms": 1000}})
        writer = penstock.open_writer(self.s3("a"))
        writer.write(b"x")
        other = threading.Thread(target=writer.finalize)
        other.start()
        while not self.requests("PUT"):
            time.sleep(0.01)
        for call in (lambda: writer.write(b"y"), writer.finalize, writer.cancel):
            with self.assertRaisesRegex(ValueError, "another thread"):
                call()
        other.join()
        self.assertEqual(self.server.get(f"{BUCKET}/a"), b"x")

    def test_no_checksum_is_sent_unless_it_is_asked_for(self):
        with penstock.create_s3_writer(self.s3("a")) as writer:
            writer.write(b"123456789")
        self.assertEqual(writer.checksum(), "crc32c:e3069283")
        with penstock.open_writer(self.s3("a"), checksum="crc32c") as writer:
            writer.write(b"123456789")
        without, having = (
            [name for name in one["headers"] if "checksum" in name.lower()]
            for one in self.requests("PUT")
        )
        self.assertEqual(without, [])
        self.assertEqual(having, ["x-amz-checksum-crc32c"])


class Multipart(WithServer):
    def test_is_what_its_users_know(self):
        writer = penstock.MultipartUploadWriter(BUCKET, "a", part_size=5 * MIB, max_in_flight=2)
        writer.write(bytearray(pattern(6 * MIB)))
        memory = writer.reserve(MIB)
        memory[:3] = b"abc"
        writer.commit(3)
        writer.flush()
        writer.write(b"end", copy=True)
        result = writer.close()
        self.assertEqual(writer.close(), result)
        self.assertEqual(result["total_bytes"], 6 * MIB + 6)
        self.assertEqual(result["parts"], 2)
        self.assertTrue(result["etag"])
        self.assertLessEqual(result["started_at"], result["completed_at"])
        self.assertEqual(self.server.get(f"{BUCKET}/a"), pattern(6 * MIB) + b"abcend")

    def test_block_and_abort(self):
        with penstock.MultipartUploadWriter.from_uri(self.s3("a"), content_type="x/y") as writer:
            writer.write(b"a")
        self.assertEqual(self.server.get(f"{BUCKET}/a"), b"a")
        with self.assertRaises(KeyError):
            with penstock.MultipartUploadWriter.from_uri(self.s3("b")) as writer:
                writer.write(b"b")
                raise KeyError
        writer.abort()
        writer = penstock.MultipartUploadWriter(BUCKET, "b", part_size=5 * MIB)
        writer.write(bytes(15 * MIB))
        writer.abort()
        writer.abort()
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        self.assertFalse(penstock.exists(self.s3("b")))

    def test_wrong_calls(self):
        for error, args, kwargs in (
            (TypeError, (1, "a"), {}),
            (TypeError, (BUCKET, 1), {}),
            (ValueError, ("", "a"), {}),
            (ValueError, ("a/b", "a"), {}),
            (ValueError, (BUCKET, "a"), {"abort_on_drop": False}),
            (ValueError, (BUCKET, "a"), {"part_size": 1}),
            (ValueError, (BUCKET, "a"), {"max_in_flight": 0}),
        ):
            with self.subTest(args=args, kwargs=kwargs), self.assertRaises(error):
                penstock.MultipartUploadWriter(*args, **kwargs)


if __name__ == "__main__":
    unittest.main()

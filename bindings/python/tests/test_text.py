"""Text: open() as Python's own, and nothing is published by an exception."""
import gc
import io
import os
import pathlib
import unittest

import penstock
from streams import MIB, WithFiles, WithServer, wait_until

LINES = "eins\nzwei ä€\ndrei\n"


class Reading(WithFiles):
    def test_is_utf_8_unless_told_otherwise(self):
        for encoding, mode in ((None, "r"), (None, "rt"), ("utf-16", "r"), ("utf-8-sig", "tr")):
            name = self.make("a", LINES.encode(encoding or "utf-8"))
            with penstock.open(name, mode, encoding=encoding) as file:
                self.assertIsInstance(file, io.TextIOWrapper)
                self.assertEqual((file.mode, file.name), (mode, name))
                self.assertEqual(file.readline(), "eins\n")
                self.assertEqual(list(file), ["zwei ä€\n", "drei\n"])
            self.assertTrue(file.closed)

    def test_reads_what_python_reads(self):
        path = self.path("a")
        self.make("a", b"one\r\ntwo\rthree\n\xff\xe9 end")
        for arguments in ({"errors": "replace"}, {"errors": "surrogateescape"},
                          {"encoding": "latin-1"}, {"encoding": "latin-1", "newline": ""},
                          {"encoding": "latin-1", "newline": "\n"},
                          {"encoding": "latin-1", "newline": "\r\n"}):
            with self.subTest(arguments):
                with open(path, **{"encoding": "utf-8", **arguments}) as own, \
                        penstock.open("file://" + path, "r", **arguments) as file:
                    self.assertEqual(file.readlines(), own.readlines())
        with self.assertRaises(UnicodeDecodeError), penstock.open("file://" + path, "r") as file:
            file.read()

    def test_places_can_be_told_and_sought(self):
        with penstock.open(self.make("a", LINES.encode()), "r") as file:
            file.readline()
            place = file.tell()
            rest = file.read()
            file.seek(place)
            self.assertEqual(file.read(), rest)


class Writing(WithFiles):
    def left(self):
        return sorted(os.listdir(self.directory))

    def test_writes_what_python_writes(self):
        for arguments in ({}, {"encoding": "utf-16"}, {"encoding": "U32"}, {"newline": "\r\n"},
                          {"newline": ""}, {"encoding": "ascii", "errors": "xmlcharrefreplace"},
                          {"buffering": 1}):
            with self.subTest(arguments):
                with open(self.path("own"), "w", **{"encoding": "utf-8", **arguments}) as own:
                    own.write(LINES)
                with penstock.open(self.uri("a"), "w", **arguments) as file:
                    self.assertEqual((file.mode, file.name), ("w", self.uri("a")))
                    self.assertEqual(file.write(LINES), len(LINES))
                self.assertEqual(self.content("a"), self.content("own"))

    def test_more_than_a_buffer(self):
        with penstock.open(self.uri("a"), "wt") as file:
            for number in range(100_000):
                print(number, file=file)
            self.assertFalse(penstock.exists(self.uri("a")))
        with penstock.open(pathlib.Path(self.path("a")), "r") as file:
            self.assertEqual([int(line) for line in file], list(range(100_000)))

    def test_an_exception_drops(self):
        with self.assertRaises(KeyError), penstock.open(self.uri("a"), "w") as file:
            file.write("abc")
            file.flush()
            file.write("def")
            raise KeyError
        self.assertTrue(file.closed)
        with self.assertRaises(UnicodeEncodeError):
            with penstock.open(self.uri("a"), "w", encoding="ascii") as file:
                file.write("abc")
                file.write("ä")
        self.assertEqual(self.left(), [])

    def test_the_last_reference_gone_drops(self):
        file = penstock.open(self.uri("a"), "w")
        file.write("abc")
        del file
        gc.collect()
        file = penstock.open(self.uri("a"), "w")
        file.write("abc")
        file.itself = file
        del file
        gc.collect()
        self.assertEqual(self.left(), [])

    def test_discard(self):
        file = penstock.open(self.uri("a"), "w")
        file.write("abc")
        file.discard()
        file.discard()
        file.close()
        self.assertTrue(file.closed)
        self.assertEqual(self.left(), [])

    def test_one_that_cannot_be_written_to_the_end_is_dropped(self):
        class Failing(penstock.WriterFile):
            def write(self, data):
                raise MemoryError

        file = penstock.TextWriter(Failing(penstock.open_writer(self.uri("a"))))
        file.write("abc")
        with self.assertRaises(MemoryError):
            file.close()
        self.assertTrue(file.closed)
        self.assertEqual(self.left(), [])

    def test_what_was_detached_goes_on(self):
        file = penstock.open(self.uri("a"), "w")
        file.write("abc")
        binary = file.detach()
        del file
        binary.write(b"def")
        binary.close()
        self.assertEqual(self.content("a"), b"abcdef")

    def test_must_not_exist_yet(self):
        with penstock.open(self.uri("a"), "x") as file:
            file.write("first")
        with self.assertRaises(FileExistsError), penstock.open(self.uri("a"), "xt") as file:
            file.write("second")
        self.assertTrue(file.closed)
        self.assertEqual(self.content("a"), b"first")


class WrongCalls(WithFiles):
    def test_objects_are_not_changed(self):
        for mode in ("a", "ab", "at", "r+", "rb+", "r+b", "w+", "x+b"):
            with self.subTest(mode):
                with self.assertRaises(io.UnsupportedOperation) as caught:
                    penstock.open(self.uri("a"), mode)
                self.assertIn(repr(mode), str(caught.exception))
                self.assertNotIn("\n", str(caught.exception))

    def test_are_told_before_anything_is_opened(self):
        name = self.uri("missing")
        for error, mode, arguments in (
            (ValueError, "rw", {}),
            (ValueError, "b", {}),
            (ValueError, "rbt", {}),
            (ValueError, "rU", {}),
            (ValueError, "rr", {}),
            (ValueError, "rb", {"encoding": "utf-8"}),
            (ValueError, "rb", {"errors": "strict"}),
            (ValueError, "wb", {"newline": ""}),
            (ValueError, "r", {"buffering": 0}),
            (ValueError, "r", {"newline": "x"}),
            (LookupError, "w", {"encoding": "no such"}),
            (TypeError, "w", {"encoding": 8}),
            (TypeError, "r", {"newline": 1}),
            (TypeError, "r", {"errors": 1}),
        ):
            with self.subTest(mode=mode, **arguments), self.assertRaises(error):
                penstock.open(name, mode, **arguments)
        self.assertEqual(os.listdir(self.directory), [])
        with self.assertRaises(TypeError):
            penstock.TextWriter(io.BytesIO())


class OverHttp(WithServer):
    def test_an_exception_leaves_no_upload(self):
        with self.assertRaises(KeyError):
            with penstock.open(self.s3("a"), "w", part_bytes=5 * MIB) as file:
                for _ in range(16):
                    file.write("x" * MIB)
                self.assertTrue(wait_until(self.server.uploads))
                raise KeyError
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        self.assertEqual(self.server.objects(), [])

    def test_must_not_exist_yet(self):
        for text in ("first", "second"):
            file = penstock.open(self.s3("a"), "x")
            file.write(text)
            if text == "first":
                file.close()
        with self.assertRaises(FileExistsError):
            file.close()
        with penstock.open(self.s3("a"), "r") as file:
            self.assertEqual(file.read(), "first")


if __name__ == "__main__":
    unittest.main()

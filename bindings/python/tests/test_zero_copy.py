"""That nothing is copied: by addresses, and by the memory that a program of its own takes at its peak."""
import mmap
import os
import subprocess
import sys
import unittest

import penstock
from streams import MIB, WithFiles, address_of, pattern

try:
    import numpy
except ImportError:  # the same is shown without it
    numpy = None

SIZE = 256 * MIB

# Prints by how many bytes `work` lets the peak of memory grow, after a small call of the same kind.
PROGRAM = """
import os, sys, penstock

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10

def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

{prepare}
def work(uri, size):
    {work}

work({small!r}, 1000)
forget_peak()
before = peak()
kept = work({large!r}, {size})
print(peak() - before)
"""


def growth(work, small, large, prepare=""):
    code = PROGRAM.format(work=work, small=small, large=large, size=SIZE, prepare=prepare)
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True,
                          timeout=100)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return int(done.stdout)


class Addresses(WithFiles):
    def test_views_show_the_memory_that_was_read_into(self):
        view = penstock.get(self.make("a", pattern(MIB)))
        at = address_of(view)
        self.assertEqual(at % 64, 0)
        self.assertEqual(address_of(view.memoryview()), at)
        self.assertEqual(address_of(view[1000:]), at + 1000)
        self.assertEqual(address_of(view[1000:][24:30]), at + 1024)
        self.assertEqual(address_of(memoryview(view)[5:]), at + 5)
        if numpy:
            self.assertEqual(numpy.frombuffer(view, numpy.uint8).ctypes.data, at)
            self.assertEqual(numpy.frombuffer(view.memoryview(), "<u4").ctypes.data, at)
            self.assertEqual(numpy.from_dlpack(view).ctypes.data, at)

    def test_ranges_near_each_other_are_views_of_one_buffer(self):
        uri = self.make("a", pattern(MIB))
        first, second = penstock.get_ranges(uri, [(100, 50), (200, 50)])
        self.assertEqual(address_of(second) - address_of(first), 100)

    def test_memory_of_the_caller_is_filled_where_it_lies(self):
        uri = self.make("a", pattern(MIB))
        targets = [bytearray(MIB), mmap.mmap(-1, MIB)]
        if numpy:
            targets.append(numpy.zeros(MIB // 4, "<u4"))
        for target in targets:
            at = address_of(target)
            self.assertEqual(penstock.get_into(uri, target), MIB)
            self.assertEqual(address_of(target), at)
            self.assertEqual(bytes(target), pattern(MIB))
            with penstock.open_reader(uri) as file:
                file.readinto(target)
            self.assertEqual(address_of(target), at)
            self.assertEqual(bytes(target), pattern(MIB))

    def test_a_file_past_the_page_cache_too(self):
        uri = self.make("a", pattern(MIB)).replace("file:", "direct:", 1)
        view = penstock.get(uri)
        self.assertEqual(address_of(view) % 64, 0)
        target = bytearray(MIB)
        self.assertEqual(penstock.get_into(uri, target), MIB)
        self.assertEqual(target, pattern(MIB))


class Memory(WithFiles):
    def setUp(self):
        super().setUp()
        self.small = self.make("small", b"x" * 1000)
        self.large = self.uri("large")
        with open(self.path("large"), "wb") as file:
            os.truncate(file.fileno(), SIZE)

    def test_get(self):
        work = "return penstock.get(uri)[size // 2:].memoryview()"
        self.assertLess(growth(work, self.small, self.large), SIZE * 1.05)

    def test_get_many_of_halves(self):
        half = self.uri("half")
        with open(self.path("half"), "wb") as file:
            os.truncate(file.fileno(), SIZE // 2)
        work = "return penstock.get_many([uri, uri])"
        self.assertLess(growth(work, self.small, half), SIZE * 1.05)

    def test_readinto(self):
        work = "return penstock.open_reader(uri).readinto(memoryview(memory)[:size])"
        prepare = f"memory = bytearray({SIZE})\nmemory[::4096] = bytes(len(memory[::4096]))\n"
        self.assertLess(growth(work, self.small, self.large, prepare), SIZE * 0.05)

    def test_reading_a_stream(self):
        work = (
            "with penstock.open(uri) as file:\n"
            "        while file.read(1 << 20): pass"
        )
        self.assertLess(growth(work, self.small, self.large), 100 * MIB)

    def test_put(self):
        prepare = f"memory = bytes({SIZE})\n"
        for work in (
            "penstock.put_bytes(uri, memoryview(memory)[:size])",
            "penstock.put_many([(uri, memoryview(memory)[:size])])",
        ):
            with self.subTest(work):
                self.assertLess(growth(work, self.small, self.large, prepare), SIZE * 0.05)

    def test_writing_what_the_writer_owns(self):
        work = (
            "with penstock.open_writer(uri) as writer:\n"
            "        writer.write_owned_bytes(memoryview(memory)[:size])"
        )
        prepare = f"memory = bytes({SIZE})\n"
        self.assertLess(growth(work, self.small, self.large, prepare), SIZE * 0.2)


if __name__ == "__main__":
    unittest.main()

"""What a machine refuses, direct:// does without: the command works, and --stats, log and stat say so."""
import ctypes
import json
import os
import platform
import resource
import struct

from cli_support import OK, Case, main

# Numbers of Linux: linux/filter.h, linux/seccomp.h, linux/prctl.h, asm/unistd.h.
LOAD, JUMP_IF_EQUAL, JUMP_IF_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 22, 38, 41
IO_URING_SETUP = 425
OPENAT, FCNTL = {"x86_64": (257, 72), "aarch64": (56, 25)}[platform.machine()]
EPERM, EINVAL = 1, 22


def prctl(*args):
    if ctypes.CDLL(None, use_errno=True).prctl(*args):
        raise OSError(ctypes.get_errno(), "prctl")


def install(*instructions):
    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(Program(len(instructions), ctypes.addressof(code))), 0, 0)


def refuse_io_uring():
    install((LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
            (RETURN, 0, 0, FAIL_WITH | EPERM), (RETURN, 0, 0, ALLOW))


def refuse_o_direct():
    for number in (OPENAT, FCNTL): # in both, the third argument has the flag
        install((LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 3, number), (LOAD, 0, 0, 16 + 2 * 8),
                (JUMP_IF_BITS, 0, 1, os.O_DIRECT), (RETURN, 0, 0, FAIL_WITH | EINVAL),
                (RETURN, 0, 0, ALLOW))


def refuse_both():
    refuse_io_uring()
    refuse_o_direct()


def refuse_huge_pages():
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def refuse_locked_memory():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


class Fallbacks(Case):
    def setUp(self):
        super().setUp()
        self.data = os.urandom(20_000_001)
        self.write("a", self.data)
        self.direct = "direct://" + self.path("b")

    def note(self, *options, before=None):
        """Write and read; the note that --stats gives of the store."""
        notes = []
        for verb, *places in (("put", "a", self.direct), ("get", self.direct, "c"),
                              ("cp", "a", self.direct + "2")):
            result = self.run_raw(verb, "--verify", "--stats", "--json", *options, *places,
                                  preexec_fn=before)
            self.assertEqual(result.returncode, OK, result.stderr)
            facts = json.loads(result.stderr.splitlines()[-1])
            self.assertEqual((facts["bytes"], facts["not_verified"]), (len(self.data), 0))
            notes += [s["note"] for s in facts["stores"] if s["plugin"] == "directio"]
        for name in ("b", "b2", "c"):
            self.assertEqual(self.read(name), self.data)
            os.remove(self.path(name))
        self.assertEqual(len(set(notes)), 1, notes)
        return notes[0]

    def test_options_that_turn_something_off_are_in_the_note(self):
        self.assertIn("io_uring is off", self.note("-o", "directio.io_uring=off"))
        self.assertIn("O_DIRECT is off", self.note("-o", "directio.o_direct=off"))

    def test_io_uring_that_a_sandbox_refuses(self):
        self.assertIn("io_uring is not available", self.note(before=refuse_io_uring))

    def test_o_direct_that_a_file_system_refuses(self):
        self.assertIn("O_DIRECT is refused", self.note(before=refuse_o_direct))

    def test_both_refused(self):
        note = self.note(before=refuse_both)
        self.assertIn("io_uring is not available", note)
        self.assertIn("O_DIRECT is refused", note)

    def test_no_huge_pages_and_no_locked_memory(self):
        self.note(before=refuse_huge_pages)
        self.note(before=refuse_locked_memory)
        self.note("-o", "directio.registered_buffers=1", before=refuse_locked_memory)

    def test_text_log_and_stat_name_it(self):
        result = self.run_raw("put", "-v", "--stats", "a", self.direct, preexec_fn=refuse_io_uring)
        lines = result.stderr.decode().splitlines()
        self.assertEqual(result.returncode, OK, lines)
        self.assertTrue(any("warning: directio: io_uring is not available" in line
                            for line in lines), lines)
        self.assertRegex(lines[-1], "^penstock: put: stats: direct://.*: plugin directio; "
                                    "io_uring is not available")
        quiet = self.run_raw("put", "a", self.direct, preexec_fn=refuse_io_uring)
        self.assertEqual((quiet.returncode, quiet.stderr), (OK, b""))
        result = self.run_raw("stat", "-v", self.direct, preexec_fn=refuse_io_uring)
        self.assertRegex(result.stdout.decode(), "(?m)^Note +: io_uring is not available")

    def test_bench_has_the_note(self):
        for kind in ("get", "put"):
            facts = json.loads(self.run_ok(
                "bench", kind, "--json", "--size", "200k", "--count", "20",
                "direct://" + self.path("bench"), preexec_fn=refuse_both))
            self.assertIn("io_uring is not available", facts["note"])
            self.assertIn("O_DIRECT is refused", facts["note"])
        self.assertEqual(os.listdir(self.top), ["a"])


main()

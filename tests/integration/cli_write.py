"""put and cleanup on file://: whole or not at all, in bounded memory."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from cli_support import (CONFLICT, DATA, DENIED, IO, NOT_FOUND, OK, PENSTOCK, PLUGINS, USAGE, Case,
                         main)


class Putting(Case):
    def test_put_writes_from_a_file_and_from_standard_input(self):
        data = os.urandom(20_000_000)
        self.write("src", data)
        self.assertEqual(self.run_ok("put", "src", self.uri("new/dst")), b"")
        self.assertEqual(self.read("new/dst"), data)
        self.run_ok("put", "-", "piped", stdin=data)
        self.assertEqual(self.read("piped"), data)
        self.run_ok("put", "-", "empty", stdin=b"")
        self.assertEqual(self.read("empty"), b"")
        self.assertEqual(sorted(os.listdir(self.top)), ["empty", "new", "piped", "src"])

    def test_put_into_a_slash_takes_the_files_name(self):
        self.write("src/name", b"x")
        self.run_ok("put", "src/name", "d/")
        self.assertEqual(self.read("d/name"), b"x")
        self.assert_fails(USAGE, "give the object's whole name", "put", "-", "d/")

    def test_put_reports_size_etag_and_crc(self):
        facts = json.loads(self.run_ok("put", "--json", "-", "a", stdin=b"123456789"))
        self.assertEqual((facts["uri"], facts["size"], facts["crc32c"]),
                         (self.uri("a"), 9, "e3069283"))
        self.assertEqual(facts["etag"], json.loads(self.run_ok("stat", "--json", "a"))["etag"])

    def test_put_keeps_attributes(self):
        self.run_ok("put", "-", "a", "--content-type", "text/plain", "--meta", "job=42", "--meta",
                    "who=me=you", "--content-encoding=gzip", stdin=b"x")
        facts = json.loads(self.run_ok("stat", "--json", "a"))
        self.assertEqual((facts["content_type"], facts["content_encoding"], facts["user_meta"]),
                         ("text/plain", "gzip", {"job": "42", "who": "me=you"}))

    def test_create_only_and_if_match_protect_what_is_there(self):
        self.write("src", b"new")
        self.write("a", b"old")
        self.assert_fails(CONFLICT, "exists", "put", "--create-only", "src", "a")
        self.assert_fails(CONFLICT, "etag", "put", "--if-match", "other", "src", "a")
        self.assert_fails(CONFLICT, "nothing is there", "put", "--if-match", "x", "src", "b")
        self.assert_fails(USAGE, "exclude each other", "put", "--create-only", "--if-match", "x",
                          "src", "a")
        etag = json.loads(self.run_ok("stat", "--json", "a"))["etag"]
        self.run_ok("put", "--if-match", etag, "src", "a")
        self.assertEqual(self.read("a"), b"new")
        self.run_ok("put", "--create-only", "src", "b")

    def test_put_of_what_cannot_be_read_changes_nothing(self):
        os.mkdir(self.path("d"))
        self.assert_fails(NOT_FOUND, "nope: No such file", "put", "nope", "a")
        self.assert_fails(USAGE, "is a directory", "put", "d", "a")
        self.assert_fails(USAGE, "use 'penstock cp'", "put", self.uri("x"), "a")

    def test_source_that_changes_while_it_is_read_is_exit_7(self):
        with open(self.path("src"), "wb") as f:
            f.truncate(1 << 30)
        self.write("d/a", b"old")
        with subprocess.Popen([PENSTOCK, "put", "src", "d/a"], cwd=self.top, env=self.env,
                              stderr=subprocess.PIPE) as child:
            while len(os.listdir(self.path("d"))) == 1:
                self.assertIsNone(child.poll())
            with open(self.path("src"), "ab") as f:
                f.write(b"more")
            self.assertEqual(child.wait(timeout=60), DATA)
            self.assertEqual(child.stderr.read(),
                             b"penstock: put: src: changed while it was read\n")
        self.assertEqual((os.listdir(self.path("d")), self.read("d/a")), (["a"], b"old"))

    def test_put_where_no_object_can_be_changes_nothing(self):
        self.write("src")
        self.write("file")
        os.mkdir(self.path("d"))
        self.assert_fails(USAGE, "directory", "put", "src", "d")
        self.assert_fails(USAGE, "directory", "put", "src", "file/x")
        self.assert_fails(USAGE, '".."', "put", "src", self.uri("../escape"))
        self.assert_fails(USAGE, "component", "put", "src", self.uri("a//b"))
        self.assert_fails(USAGE, "255", "put", "src", "x" * 256)
        self.assert_fails(USAGE, "4000", "put", "src", self.uri("/".join(["x" * 250] * 20)))

    def test_memory_stays_bounded_however_long_the_stream(self):
        """512 MiB through a budget of 32 MiB; a sanitizer's shadow and quarantine fit the bound."""
        n = 512 << 20
        with open(self.path("src"), "wb") as f:
            f.truncate(n)
        for args in (("put", "src", "dst"), ("get", "src", "dst")):
            child = subprocess.run([sys.executable, "-c", MEASURE, PENSTOCK, "--memory=32MiB", *args],
                                   cwd=self.top, env=self.env, capture_output=True, check=True)
            self.assertLess(int(child.stdout), 384 << 20, args)
            self.assertEqual(os.stat(self.path("dst")).st_size, n)
            os.remove(self.path("dst"))


MEASURE = """
import os, resource, subprocess, sys
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=16"
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


class Refusals(Case):
    """What the system refuses: rights, space, standard output."""

    def assert_nobody_fails(self, code, says, *args):
        """As an ordinary user, who may not be able to reach the build tree: on a copy of it."""
        if os.geteuid() != 0:
            self.assert_fails(code, says, *args)
            return
        if not hasattr(self, "copy"):
            self.copy = tempfile.mkdtemp(prefix="penstock-copy.")
            self.addCleanup(shutil.rmtree, self.copy)
            os.chmod(self.copy, 0o755)
            os.mkdir(os.path.join(self.copy, "bin"))
            shutil.copy(PENSTOCK, os.path.join(self.copy, "bin"))
            lib = os.path.dirname(os.path.dirname(PLUGINS))
            shutil.copytree(lib, os.path.join(self.copy, "lib"), symlinks=True,
                            ignore=shutil.ignore_patterns("*.a", "cmake"))
        self.assert_fails(code, says, "--reuid=65534", "--regid=65534", "--clear-groups",
                          os.path.join(self.copy, "bin", "penstock"), *args, command="setpriv")

    def test_unreadable_file_is_exit_4(self):
        os.chmod(self.write("secret", b"x"), 0)
        os.chmod(self.top, 0o777)
        self.assert_nobody_fails(DENIED, "ermission denied", "get", self.path("secret"))
        self.assert_nobody_fails(DENIED, "ermission denied", "put", self.path("secret"),
                                 self.path("copy"))
        self.assert_nobody_fails(DENIED, "ermission denied", "get", self.path("secret"),
                                 self.path("copy"))

    def test_unwritable_directory_is_exit_4(self):
        self.write("d/old", b"old")
        self.write("src", b"new")
        os.chmod(self.path("d"), 0o555)
        for args in (("put", self.path("src"), self.path("d/new")),
                     ("put", self.path("src"), self.path("d/old")),
                     ("rm", self.path("d/old"))):
            self.assert_nobody_fails(DENIED, "ermission denied", *args)

    def test_full_disk_is_exit_8_and_leaves_what_was_there(self):
        """A tmpfs of 1 MiB in a mount namespace of its own."""
        self.write("src", bytes(4 << 20))
        os.mkdir(self.path("disk"))
        script = """
            mount -t tmpfs -o size=1m tmpfs disk && echo old > disk/a || exit 99
            "$1" put src disk/a; echo put $?
            "$1" get src disk/a; echo get $?
            "$1" put src disk/sub/b; echo new $?
            cat disk/a; ls -A disk
        """
        unshare = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
        result = subprocess.run([*unshare, "sh", "-c", script, "sh", PENSTOCK], cwd=self.top,
                                env=self.env, capture_output=True, check=False)
        self.assertEqual((result.returncode, result.stdout),
                         (OK, b"put 8\nget 8\nnew 8\nold\na\n"), result.stderr)
        lines = result.stderr.decode().splitlines()
        self.assertEqual(len(lines), 3, lines)
        self.assertTrue(all("No space left" in line for line in lines), lines)

    def test_full_standard_output_is_exit_8(self):
        self.write("a", bytes(1 << 20))
        for args in (("get", "a"), ("ls", "."), ("help",)):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([PENSTOCK, *args], stdout=full, stderr=subprocess.PIPE,
                                        cwd=self.top, env=self.env, check=False)
            self.assertEqual(result.returncode, IO, args)
            self.assertRegex(result.stderr, rb"^penstock: .*standard output: No space left[^\n]*\n$")

    def test_closed_standard_output_is_an_error_and_no_file_takes_its_place(self):
        self.write("a", b"x")
        result = self.run_raw("-c", '"$0" get a >&-', PENSTOCK, command="sh")
        self.assertEqual(result.returncode, IO, result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1)
        result = self.run_raw("-c", '"$0" get a b >&-', PENSTOCK, command="sh")
        self.assertEqual((result.returncode, self.read("b")), (OK, b"x"))


class CleaningUp(Case):
    def leave_behind(self):
        """Kill a writer in the middle; returns the names it left."""
        os.makedirs(self.path("d"), exist_ok=True)
        before = set(os.listdir(self.path("d")))
        with subprocess.Popen([PENSTOCK, "put", "-", "d/x"], stdin=subprocess.PIPE, cwd=self.top,
                              env=self.env) as child:
            while set(os.listdir(self.path("d"))) == before:
                child.stdin.write(bytes(1 << 20))
                child.stdin.flush()
            child.kill()
        return set(os.listdir(self.path("d"))) - before

    def test_what_a_killed_writer_left_is_counted_then_removed(self):
        self.write("d/keep", b"keep")
        self.assertEqual(len(self.leave_behind()), 1)
        self.assertEqual(self.run_ok("ls", "-r", "."), self.uri("d/keep\n").encode())
        facts = json.loads(self.run_ok("cleanup", "d", "--older-than=0s", "-n", "--json"))
        self.assertEqual((facts["removed"], facts["dry_run"]), (1, True))
        self.assertRegex(self.run_ok("cleanup", "d", "--older-than=0s"), rb"^removed 1 leftovers, ")
        self.assertEqual(os.listdir(self.path("d")), ["keep"])

    def test_young_leftovers_and_other_directories_stay(self):
        self.leave_behind()
        self.assertEqual(self.run_ok("cleanup", "d"), b"removed 0 leftovers, 0 B\n")
        self.assertRegex(self.run_ok("cleanup", "-n", ".", "--older-than", "0s"), b"would remove 1 ")
        os.rename(self.path("d"), self.path("dd"))
        os.mkdir(self.path("d"))
        self.assertRegex(self.run_ok("cleanup", "d", "--older-than", "0s"), b"removed 0 ")


if __name__ == "__main__":
    main()

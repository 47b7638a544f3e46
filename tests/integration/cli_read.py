"""ls, stat, get, cat and du on file://."""
import json
import os
import subprocess

from cli_support import CONFLICT, DATA, NOT_FOUND, PENSTOCK, SOME_FAILED, USAGE, Case, main

ODD_NAMES = [b"a b", b"100%", b"50%25", b"#x", b"q?a=1", b"a+b", b"new\nline", "h\u00e9".encode(),
             b"\xff\xfe", b"x" * 255, b"tab\t", b"\\back", b"'quote'", b"-dash", b" lead"]


class Listing(Case):
    def tree(self):
        for name in ("t/a.txt", "t/a-b", "t/a/x", "t/a0", "t/dir/sub/y.txt", "t/dirfoo"):
            self.write(name, name.encode())
        os.mkdir(self.path("t/empty"))

    def keys(self, *args):
        base = self.uri("t/").encode()
        lines = self.run_ok("ls", *args, self.uri("t/")).splitlines()
        self.assertTrue(all(line.startswith(base) for line in lines))
        return [line[len(base):].decode() for line in lines]

    def test_one_level_shows_directories_with_a_slash_in_byte_order(self):
        self.tree()
        self.assertEqual(self.keys(), ["a-b", "a.txt", "a/", "a0", "dir/", "dirfoo", "empty/"])

    def test_recursive_shows_every_object_in_byte_order(self):
        self.tree()
        self.assertEqual(self.keys("-r"),
                         ["a-b", "a.txt", "a/x", "a0", "dir/sub/y.txt", "dirfoo"])

    def test_directory_is_listed_with_or_without_its_slash(self):
        self.tree()
        want = self.run_ok("ls", self.uri("t/dir/"))
        self.assertEqual(want, self.uri("t/dir/sub/\n").encode())
        for form in (self.uri("t/dir"), "t/dir", "t/dir/", "./t/../t/dir", self.path("t/dir")):
            self.assertEqual(self.run_ok("ls", form), want, form)
        self.assertEqual(self.run_ok("ls", "."), self.uri("t/\n").encode())
        self.assertEqual(self.run_ok("ls", "t/empty"), b"")

    def test_object_lists_as_itself_and_prefixes_match_no_neighbours(self):
        self.tree()
        self.assertEqual(self.run_ok("ls", "t/a.txt"), self.uri("t/a.txt\n").encode())
        self.assert_fails(NOT_FOUND, "not found", "ls", self.uri("t/di"))
        self.assert_fails(NOT_FOUND, "not found", "ls", self.uri("t/a.txt/"))

    def test_regex_is_searched_in_the_path_below_the_base(self):
        self.tree()
        self.assertEqual(self.keys("-r", "--regex", r"\.txt$"), ["a.txt", "dir/sub/y.txt"])
        self.assertEqual(self.keys("-r", "--regex", "^dir/"), ["dir/sub/y.txt"])
        self.assertEqual(self.keys("--regex", "^a"), ["a-b", "a.txt", "a/", "a0"])
        self.assertEqual(self.keys("-r", "--regex", "^t/"), [])

    def test_dollar_in_a_regex_means_the_very_end(self):
        self.write(b"t/x\n")
        self.write(b"t/x")
        self.assertEqual(self.run_ok("ls", "-c", "--regex", "^x$", "t"), b"1\n")

    def test_limit_count_null_and_long(self):
        self.tree()
        self.assertEqual(self.keys("-r", "--limit", "2"), ["a-b", "a.txt"])
        self.assertEqual(self.keys("-r", "--limit", "0"), [])
        self.assertEqual(self.run_ok("ls", "-rc", "t"), b"6\n")
        self.assertEqual(json.loads(self.run_ok("ls", "-rc", "--json", "t")),
                         {"count": 6, "bytes": sum(len("t/" + k) for k in self.keys("-r"))})
        self.assertEqual(self.run_ok("ls", "-0", "t/a").split(b"\0"),
                         [self.uri("t/a/x").encode(), b""])
        os.utime(self.path("t/a0"), (86400, 86400))
        line = self.run_ok("ls", "-l", "t/a0").split()
        self.assertEqual(line, [b"4", b"1970-01-02T00:00:00Z", self.uri("t/a0").encode()])
        self.assertEqual(sorted(self.keys("-rU")), self.keys("-r"))

    def test_what_it_prints_can_be_pasted_back(self):
        for name in ODD_NAMES:
            self.write(b"t/" + name, name)
        uris = self.run_ok("ls", "-0", "t").split(b"\0")[:-1]
        self.assertEqual(len(uris), len(ODD_NAMES))
        for uri in uris:
            self.assertEqual(self.run_ok("cat", uri), uri.rsplit(b"/", 1)[1])

    def test_json_lines_hold_exact_bytes(self):
        for name in ODD_NAMES:
            self.write(b"t/" + name, name)
        rows = [json.loads(line) for line in self.run_ok("ls", "--json", "t").splitlines()]
        exact = {bytes.fromhex(r["uri_hex"]) if "uri_hex" in r else r["uri"].encode() for r in rows}
        self.assertEqual(exact, {self.uri("t/").encode() + name for name in ODD_NAMES})
        self.assertEqual([r["key"] for r in rows if "uri_hex" in r],
                         [self.path("t/")[1:] + "\ufffd\ufffd"])

    def test_several_locations_fail_one_by_one(self):
        self.tree()
        result = self.run_raw("ls", "t/a", "t/nope", "t/a0")
        self.assertEqual(result.returncode, SOME_FAILED)
        self.assertEqual(result.stdout.decode().split(), [self.uri("t/a/x"), self.uri("t/a0")])
        self.assertEqual(result.stderr, b"penstock: ls: t/nope: not found\n")

    def test_scheme_is_never_guessed(self):
        os.makedirs(self.path("s3:/x"))
        self.assertEqual(self.run_ok("ls", "s3:/x"), b"")
        self.assert_fails(NOT_FOUND, "a URI has '://'", "ls", "s3:/bucket")
        self.assert_fails(NOT_FOUND, "not found", "ls", "bucket/key")


class Attributes(Case):
    def test_stat_shows_size_time_and_etag(self):
        self.write("a", b"12345")
        os.utime(self.path("a"), ns=(0, 1_700_000_000_123_456_789))
        text = self.run_ok("stat", "a").decode()
        self.assertIn(f"URI             : {self.uri('a')}\nSize            : 5\n", text)
        self.assertIn("LastModified    : 2023-11-14T22:13:20.123456789Z\nETag            : ", text)
        facts = json.loads(self.run_ok("stat", "--json", "a"))
        self.assertEqual((facts["size"], facts["kind"], facts["etag_strength"]),
                         (5, "object", "strong"))
        self.assertEqual(facts["modified"], "2023-11-14T22:13:20.123456789Z")

    def test_stat_verbose_shows_the_store(self):
        self.write("a")
        result = self.run_raw("stat", "-v", "--json", "a")
        store = json.loads(result.stdout)["store"]
        self.assertEqual(store["plugin"], "file")
        self.assertIn("list-ordered", store["capabilities"].split())

    def test_stat_of_a_directory_says_so(self):
        os.mkdir(self.path("d"))
        self.assertIn(b"Kind            : directory\n", self.run_ok("stat", "d"))
        self.assertEqual(json.loads(self.run_ok("stat", "--json", "d")),
                         {"uri": self.uri("d/"), "kind": "directory"})

    def test_stat_of_nothing_is_exit_3(self):
        self.assert_fails(NOT_FOUND, "nope: not found", "stat", "nope")
        self.assert_fails(NOT_FOUND, "not found", "stat", self.uri("nope/"))


class Reading(Case):
    def test_get_writes_stdout_or_a_file(self):
        data = os.urandom(20_000_000)
        self.write("a", data)
        self.assertEqual(self.run_ok("get", "a"), data)
        self.assertEqual(self.run_ok("get", "a", "-"), data)
        self.run_ok("get", "a", "b")
        self.assertEqual(self.read("b"), data)
        self.write("empty", b"")
        self.assertEqual(self.run_ok("get", "empty"), b"")
        self.run_ok("get", "empty", "e2")
        self.assertEqual(self.read("e2"), b"")

    def test_get_reads_exact_ranges(self):
        data = os.urandom(20_000_000)
        self.write("a", data)
        for offset, length in ((0, 0), (0, 1), (5, 8_388_608), (8_388_600, 9_000_000),
                               (19_999_999, 1), (20_000_000, 0)):
            self.assertEqual(self.run_ok("get", "a", f"--offset={offset}", f"--length={length}"),
                             data[offset:offset + length], (offset, length))
        self.assertEqual(self.run_ok("get", "a", "--offset", "12345678"), data[12345678:])
        self.assertEqual(self.run_ok("get", "a", "--offset", "20000000"), b"")

    def test_range_beyond_the_end_names_the_size_and_writes_nothing(self):
        self.write("a", b"12345")
        self.assert_fails(DATA, ["offset 3, length 3", "has 5 bytes"], "get", "a", "--offset", "3",
                          "--length", "3")
        self.assert_fails(DATA, ["offset 6", "has 5 bytes"], "get", "a", "--offset", "6", "b")
        self.assert_fails(DATA, "has 5 bytes", "get", "a", "--offset", "6", "--length", "0")

    def test_get_into_a_directory_takes_the_last_name(self):
        self.write("s/name", b"x")
        os.mkdir(self.path("d"))
        self.run_ok("get", "s/name", "d")
        self.run_ok("get", self.uri("s/name"), "new/")
        self.assertEqual((self.read("d/name"), self.read("new/name")), (b"x", b"x"))

    def test_get_replaces_what_a_link_names_and_keeps_the_link(self):
        self.write("s", b"new")
        self.write("target", b"old")
        os.symlink("target", self.path("link"))
        self.run_ok("get", "s", "link")
        self.assertEqual((os.readlink(self.path("link")), self.read("target")), ("target", b"new"))

    def test_get_writes_into_devices_and_fifos_as_they_are(self):
        self.write("s", b"data")
        self.run_ok("get", "s", "/dev/null")
        self.assertTrue(os.path.exists("/dev/null") and not os.path.isfile("/dev/null"))
        os.mkfifo(self.path("fifo"))
        fd = os.open(self.path("fifo"), os.O_RDWR)
        self.run_ok("get", "s", "fifo")
        self.assertEqual(os.read(fd, 10), b"data")
        os.close(fd)

    def test_get_of_what_is_no_object_changes_nothing(self):
        self.write("d/x")
        self.write("keep", b"old")
        self.assert_fails(NOT_FOUND, "nope", "get", "nope", "keep")
        self.assert_fails(NOT_FOUND, "is a directory", "get", "d", "keep")
        self.assert_fails(USAGE, "is a directory", "get", "d/", "keep")
        self.assert_fails(USAGE, "use 'penstock cp'", "get", "keep", self.uri("new"))

    def start_and_replace(self, *args, stdout=None):
        """Start reading 4 GiB, replace the object when the first bytes are there."""
        with open(self.path("big"), "wb") as f:
            f.truncate(4 << 30)
        with open(self.path("other"), "wb") as f:
            f.truncate(4 << 30)
        os.mkdir(self.path("d"))
        with subprocess.Popen([PENSTOCK, "get", "big", *args], cwd=self.top, env=self.env,
                              stdout=stdout, stderr=subprocess.PIPE) as child:
            if stdout:
                child.stdout.read(1)
            while not stdout and not os.listdir(self.path("d")):
                self.assertIsNone(child.poll())
            os.replace(self.path("other"), self.path("big"))
            n = sum(len(piece) for piece in iter(lambda: child.stdout.read(1 << 20), b"")) \
                if stdout else 0
            self.assertEqual(child.wait(timeout=60), DATA)
            self.assertEqual(child.stderr.read(), b"penstock: get: " + self.uri("big").encode() +
                             b": changed while it was read\n")
        return n

    def test_object_replaced_while_it_is_read_is_exit_7(self):
        self.assertLess(self.start_and_replace(stdout=subprocess.PIPE), 4 << 30)

    def test_object_replaced_while_it_is_read_leaves_no_file(self):
        self.start_and_replace("d/copy")
        self.assertEqual(os.listdir(self.path("d")), [])

    def test_cat_joins_objects_and_goes_on_after_a_failure(self):
        self.write("a", b"1")
        self.write("b", b"2")
        self.assertEqual(self.run_ok("cat", "a", self.uri("b"), "a"), b"121")
        result = self.run_raw("cat", "a", "nope", "b")
        self.assertEqual((result.returncode, result.stdout), (SOME_FAILED, b"12"))
        self.assertEqual(result.stderr.count(b"\n"), 1)


class Usage(Case):
    def test_du_sums_by_first_level_and_in_total(self):
        for name, size in (("t/a", 10), ("t/d/x", 100), ("t/d/e/y", 1000), ("t/f/z", 5)):
            self.write(name, bytes(size))
        rows = [line.split() for line in self.run_ok("du", "t").decode().splitlines()]
        self.assertEqual(rows, [["1100", "2", self.uri("t/d/")], ["5", "1", self.uri("t/f/")],
                                ["1115", "4", self.uri("t/")]])
        self.assertEqual(self.run_ok("du", "-sh", "t").split(),
                         [b"1.1", b"KiB", b"4", self.uri("t/").encode()])
        last = json.loads(self.run_ok("du", "--json", "t").splitlines()[-1])
        self.assertEqual(last, {"uri": self.uri("t/"), "bytes": 1115, "objects": 4, "total": True})
        self.assertEqual(self.run_ok("du", "t/a").split()[:2], [b"10", b"1"])
        self.assert_fails(NOT_FOUND, "not found", "du", "nope")

    def test_presign_is_refused_by_file(self):
        self.write("a")
        self.assert_fails(USAGE, "presign", "presign", "a")

    def test_mb_and_rb_make_and_remove_empty_directories(self):
        self.run_ok("mb", "d", self.uri("e/"))
        self.assertTrue(os.path.isdir(self.path("d")) and os.path.isdir(self.path("e")))
        self.assert_fails(CONFLICT, "d", "mb", "d")
        self.write("e/x")
        self.assert_fails(CONFLICT, "not empty", "rb", "e")
        self.assert_fails(NOT_FOUND, "nope", "rb", "nope")
        self.run_ok("rb", "d")
        self.assertFalse(os.path.exists(self.path("d")))


if __name__ == "__main__":
    main()

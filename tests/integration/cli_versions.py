"""Old versions, tags, containers, copies between them: on mem://, whose objects begin with two versions."""
import json
import os

from cli_support import CONFLICT, NOT_FOUND, OK, USAGE, Case, main

OPTIONS = ("--plugin-dir", os.environ["PST_MEM_PLUGINS"], "-o", "mem.seed=3")


class Mem(Case):
    def mem(self, *args, **more):
        return self.run_raw(*OPTIONS, *args, **more)

    def mem_ok(self, *args, **more):
        return self.run_ok(*OPTIONS, *args, **more)

    def lines(self, *args):
        return [json.loads(line) for line in self.mem_ok(*args).splitlines()]


class Versions(Mem):
    def test_ls_tells_state_and_id_of_each_version(self):
        entries = self.lines("ls", "--versions", "--json", "mem://b/seed/0001")
        self.assertEqual([(e["size"], e["latest"], e["delete_marker"]) for e in entries],
                         [(998, True, False), (997, False, False)])
        text = self.mem_ok("ls", "--versions", "mem://b/seed/0001").split()
        self.assertEqual(text[0::3], [b"latest", b"old"])
        self.assertEqual(text[1::3], [e["version"].encode() for e in entries])
        self.assertEqual(text[2::3], [b"mem://b/seed/0001"] * 2)
        self.assertEqual(len(self.lines("ls", "--json", "mem://b/seed/0001")), 1)

    def test_a_version_is_read_by_every_verb_that_reads(self):
        old = self.mem_ok("get", "--version-id", "v3", "mem://b/seed/0001")
        new = self.mem_ok("get", "mem://b/seed/0001")
        self.assertEqual((len(old), new[:len(old)], len(new)), (997, old, 998))
        self.assertEqual(self.mem_ok("cat", "--version-id", "v3", "mem://b/seed/0001"), old)
        facts = self.lines("stat", "--json", "--version-id", "v3", "mem://b/seed/0001")[0]
        self.assertEqual((facts["size"], facts["version"]), (997, "v3"))
        self.mem_ok("cp", "-q", "--version-id", "v3", "mem://b/seed/0001", self.path("copy"))
        self.assertEqual(self.read("copy"), old)

    def test_copies_of_a_version_by_the_store(self):
        """Of another container too; nothing is read here."""
        for target in "mem://b/copy", "mem://c/copy":
            done = self.mem("cp", "--stats", "--json", "--version-id", "v3", "mem://b/seed/0001",
                            target)
            self.assertEqual(done.returncode, OK, done.stderr)
            facts = json.loads(done.stderr.splitlines()[-1])
            self.assertEqual((facts["bytes"], facts["ranges"]), (997, 0))

    def test_one_that_is_not_there_is_not_found(self):
        for verb in ("get",), ("cat",), ("stat",), ("cp", self.path("x")):
            self.assert_fails(NOT_FOUND, "seed/0001", *OPTIONS, verb[0], "--version-id", "v99",
                              "mem://b/seed/0001", *verb[1:])

    def test_rm_of_a_version(self):
        self.assertEqual(self.mem_ok("rm", "-n", "--version-id", "v3", "mem://b/seed/0001"),
                         b"mem://b/seed/0001\n")
        self.mem_ok("rm", "--version-id", "v3", "mem://b/seed/0001")
        self.assert_fails(USAGE, "--version-id", *OPTIONS, "rm", "--version-id", "v3", "mem://b/a",
                          "mem://b/b")
        self.assert_fails(USAGE, "--version-id", *OPTIONS, "rm", "-r", "--yes", "--version-id", "v3",
                          "mem://b/seed/")

    def test_a_store_without_versions_says_so(self):
        self.write("file")
        self.assert_fails(USAGE, "old versions", "ls", "--versions", self.path("file"))
        self.assert_fails(USAGE, "old versions", "get", "--version-id", "1", self.path("file"))
        self.assert_fails(USAGE, "no versions", "cp", "--version-id", "1", self.path("file"), "x")


class Attributes(Mem):
    def test_stat_tells_sums_with_their_scope(self):
        facts = self.lines("stat", "--json", "mem://b/seed/0001")[0]
        self.assertEqual([(s["algorithm"], s["scope"], len(s["value"])) for s in facts["sums"]],
                         [("CRC32C", "object", 8)])
        self.assertEqual((facts["etag_strength"], facts["tags"], facts["user_meta"]),
                         ("strong", {}, {}))

    def test_tags_are_kept_or_refused(self):
        self.mem_ok("put", "--tag", "a=b", "--tag", "c=", "-", "mem://b/k", stdin=b"x")
        self.assert_fails(USAGE, "cannot keep tags", "put", "--tag", "a=b", "-", self.path("x"))
        self.assert_fails(USAGE, "are kept here", *OPTIONS, "put", "--storage-class", "COLD", "-",
                          "mem://b/k")


class Containers(Mem):
    def test_ls_of_no_container_lists_them(self):
        listed = self.mem_ok("ls", "mem://a/seed/0001", "mem://b/seed/0001", "mem://")
        self.assertEqual(sorted(listed.split()[2:]), [b"mem://a/", b"mem://b/"])
        listed = self.lines("ls", "--json", "mem://a/seed/0001", "mem://")
        self.assertEqual(listed[1], {"uri": "mem://a/", "kind": "container"})

    def test_one_that_is_missing_is_named(self):
        missing = (*OPTIONS, "-o", "mem.missing=true")
        for verb in ("get", "mem://b/k"), ("stat", "mem://b/k"), ("ls", "mem://b/"), \
                ("rm", "mem://b/k"), ("put", "-", "mem://b/k"):
            self.assert_fails(NOT_FOUND, 'the container "b" does not exist', *missing, *verb)

    def test_mb_and_rb(self):
        self.run_ok(*OPTIONS, "-o", "mem.missing=true", "mb", "mem://b/")
        self.assert_fails(CONFLICT, "exists", *OPTIONS, "mb", "mem://b/")
        self.assert_fails(CONFLICT, "not empty", *OPTIONS, "rb", "mem://b/")

    def test_a_store_of_files_has_none(self):
        self.write("dir/file")
        self.assertIn(b"/dir/\n", self.run_ok("ls", "-o", "file.root=" + self.top, "file://"))


if __name__ == "__main__":
    main()

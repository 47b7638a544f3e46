"""--compress and --decompress, against the zstd command."""
import json
import os
import subprocess

from cli_support import DATA, OK, USAGE, Flow, main

TEXT = b"".join(b"line %d of a text that gets smaller\n" % i for i in range(200_000))


def zstd(*args, data=b""):
    return subprocess.run(["zstd", "-q", *args], input=data, capture_output=True,
                          check=False)


class Compressing(Flow):
    def test_put_makes_what_zstd_reads_under_the_name_with_zst(self):
        self.write("a", TEXT)
        for level in ("1", "3", "19"):
            facts = json.loads(self.run_ok("put", "--compress", level, "--json", "a", "d/x"))
            self.assertEqual((facts["uri"], facts["bytes_written"]),
                             (self.uri("d/x.zst"), len(TEXT)))
            self.assertEqual(facts["size"], os.path.getsize(self.path("d/x.zst")))
            self.assertLess(facts["size"], len(TEXT) / 4)
            self.assertEqual(os.listdir(self.path("d")), ["x.zst"])
            unpacked = zstd("-dc", data=self.read("d/x.zst"))
            self.assertEqual((unpacked.returncode, unpacked.stdout), (0, TEXT))

    def test_name_gets_zst_once_and_what_has_it_is_written_as_it_is(self):
        self.write("a", TEXT)
        self.run_ok("put", "--compress", "3", "a", "one.zst")
        self.run_ok("put", "--compress", "3", "a", "d/")
        self.run_ok("put", "--compress", "3", "d/a.zst", "e/")
        self.run_ok("put", "--compress", "3", "d/a.zst", "f")
        self.run_ok("put", "--compress", "3", "-", "empty", stdin=b"")
        self.assertEqual(sorted(os.listdir(self.top)),
                         ["a", "d", "e", "empty.zst", "f", "flat", "one.zst"])
        self.assertEqual(zstd("-dc", data=self.read("one.zst")).stdout, TEXT)
        self.assertEqual(zstd("-dc", data=self.read("empty.zst")).stdout, b"")
        for name in ("e/a.zst", "f"):
            self.assertEqual(self.read(name), self.read("d/a.zst"))

    def test_get_decompresses_by_name_or_always_and_never_by_itself(self):
        self.write("a", TEXT)
        packed = zstd("-c", data=TEXT).stdout
        self.write("a.zst", packed)
        self.write("b", packed)
        self.assertEqual(self.run_ok("get", "a.zst"), packed)
        self.assertEqual(self.run_ok("get", "--decompress", "name", "a.zst"), TEXT)
        self.assertEqual(self.run_ok("get", "--decompress=name", "b"), packed)
        self.assertEqual(self.run_ok("get", "--decompress=always", "b"), TEXT)
        os.mkdir(self.path("d"))
        self.run_ok("get", "--decompress=name", "a.zst", "d")
        self.run_ok("get", "a.zst", "d")
        self.run_ok("get", "--decompress=always", "b", "d")
        self.assertEqual(sorted(os.listdir(self.path("d"))), ["a", "a.zst", "b"])
        self.assertEqual((self.read("d/a"), self.read("d/a.zst"), self.read("d/b")),
                         (TEXT, packed, TEXT))

    def test_corrupt_and_cut_short_zst_are_exit_7_and_leave_no_file(self):
        self.write("a", TEXT)
        self.run_ok("put", "--compress", "3", "a", "good")
        packed = self.read("good.zst")
        broken = bytearray(packed)
        broken[len(broken) // 2] ^= 0x10
        self.write("broken.zst", bytes(broken))
        self.write("cut.zst", packed[:len(packed) // 2])
        self.write("text.zst", TEXT)
        for name in ("broken.zst", "cut.zst", "text.zst"):
            self.assert_data_loss([name, "offset"], "get", "--decompress=name", name, "out")

    def test_range_of_what_is_decompressed_is_refused(self):
        self.write("a.zst", zstd("-c", data=TEXT).stdout)
        self.assert_fails(USAGE, "a.zst", "get", "--decompress=name", "--offset", "5", "a.zst")

    def test_cp_compresses_a_tree_and_copies_what_is_compressed_as_it_is(self):
        packed = zstd("-c", data=TEXT).stdout
        for name, data in (("t/a", TEXT), ("t/d/small", b"x" * 5000), ("t/d/done.zst", packed),
                           ("t/empty", b"")):
            self.write(name, data)
        facts = self.stats("cp", "-r", "--compress", "5", "--verify", "t", "u")
        self.assertEqual((facts["objects"], facts["verified"], facts["not_verified"]), (4, 4, 0))
        self.assertEqual(facts["bytes"], len(TEXT) + 5000 + len(packed))
        self.assertEqual(facts["stored_bytes"], sum(
            os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(self.path("u"))
            for f in files))
        self.assertEqual(sorted(os.listdir(self.path("u"))), ["a.zst", "d", "empty.zst"])
        self.assertEqual(self.read("u/d/done.zst"), packed)
        for name, data in (("a", TEXT), ("d/small", b"x" * 5000), ("empty", b"")):
            self.assertEqual(zstd("-dc", data=self.read(f"u/{name}.zst")).stdout, data)
        # Between stores, and back: the bytes as they are.
        self.assertEqual(self.run_flat("cp", "u/a.zst", self.flat("a.zst")).returncode, OK)
        self.assertEqual(self.run_flat("cp", self.flat("a.zst"), "back.zst").returncode, OK)
        self.assertEqual(self.read("back.zst"), self.read("u/a.zst"))

    def test_cp_of_one_object_beside_itself_gets_its_own_name(self):
        self.write("a", TEXT)
        self.run_ok("cp", "--compress", "3", "a", "./")
        self.assertEqual(zstd("-dc", data=self.read("a.zst")).stdout, TEXT)

    def test_two_objects_never_take_one_name(self):
        self.write("t/a", TEXT)
        self.write("t/a.zst", b"other")
        result = self.run_raw("cp", "-r", "--compress", "3", "t", "u")
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"another object gets this name", result.stderr)
        self.assertEqual(os.listdir(self.path("u")), ["a.zst"])

    def test_wrong_levels_and_words_are_usage_errors(self):
        self.write("a")
        for level in ("0", "23", "-1", "fast", "3.5", ""):
            for verb in (("put",), ("cp",), ("upload", "-r")):
                self.assert_fails(USAGE, "--compress", *verb, "--compress=" + level, "a", "b/")
        self.assert_fails(USAGE, "did you mean '--compress'", "put", "--compres", "3", "a", "b")
        self.assert_fails(USAGE, "must be name or always", "get", "--decompress=gzip", "a")
        for verb in ("mv", "sync", "download"):
            self.assert_fails(USAGE, "unknown option", verb, "--compress", "3", "a", "b")
        self.assert_fails(USAGE, "not between 1 and 64", "put", "--concurrency", "65", "a", "b")
        self.assert_fails(USAGE, "below 1", "get", "--part-size", "0", "a")

    def test_what_was_compressed_is_verified_both_ways(self):
        for data in (b"", b"x", TEXT, os.urandom(20_000_000)):
            self.write("a", data)
            self.run_ok("put", "--verify", "--compress", "1", "a", "b")
            self.run_ok("get", "--verify", "--decompress=name", "b.zst", "c")
            self.assertEqual(self.read("c"), data)

    def test_corrupt_compressed_target_is_found(self):
        self.write("a", TEXT)
        bad = self.run_flat("put", "--verify", "--compress", "3", "a", self.flat("x"),
                            env={"FLAT_FAULT": "flip:x.zst"})
        self.assertEqual(bad.returncode, DATA)
        self.assertEqual(bad.stderr.count(b"\n"), 1, bad.stderr)
        self.assertIn(b"x.zst", bad.stderr)

    def test_ratio_and_size_are_those_on_the_store(self):
        self.write("a", TEXT)
        for verb in ("put", "cp"):
            facts = self.stats(verb, "--compress", "3", "a", verb)
            stored = os.path.getsize(self.path(verb + ".zst"))
            self.assertEqual((facts["bytes"], facts["stored_bytes"]), (len(TEXT), stored))
            self.assertAlmostEqual(facts["ratio"], len(TEXT) / stored, places=5)
        facts = self.stats("get", "--decompress=name", "put.zst", "out")
        self.assertEqual((facts["bytes"], facts["stored_bytes"]),
                         (len(TEXT), os.path.getsize(self.path("put.zst"))))


main()

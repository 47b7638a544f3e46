"""--verify, --part-size, --concurrency and --stats, as a user meets them."""
import json
import os

from cli_support import DATA, NOT_FOUND, OK, USAGE, Flow, main

TEXT = b"".join(b"line %d of some text\n" % i for i in range(200_000))


class Verifying(Flow):
    def test_what_is_right_is_verified_and_says_nothing(self):
        for data in (b"", b"x", TEXT, os.urandom(20_000_000)):
            self.write("a", data)
            self.run_ok("put", "--verify", "a", "b")
            self.run_ok("get", "--verify", "b", "c")
            self.assertEqual(self.read("c"), data)
            self.assertEqual(self.run_ok("cat", "--verify", "b"), data)
            said = self.run_raw("cat", "-v", "--verify", "b").stderr
            self.assertIn(b"/b: verified: yes\n", said)
            for _ in range(2): # the second time it is there
                self.run_ok("cp", "--verify", "c", "e")

    def test_what_was_renamed_is_counted_and_said_not_to_be_verified(self):
        self.write("a", b"data")
        result = self.run_raw("mv", "--verify", "--stats", "--json", "a", "b")
        self.assertEqual((result.returncode, self.read("b")), (OK, b"data"))
        said, facts = result.stderr.splitlines()
        self.assertEqual(said, b"penstock: mv: " + self.uri("b").encode() +
                         b": verified: no, the store renamed it, no byte was read")
        facts = json.loads(facts)
        self.assertEqual((facts["objects"], facts["bytes"], facts["verified"],
                          facts["not_verified"]), (1, 4, 0, 1))
        result = self.run_flat("mv", "--verify", "b", self.flat("b")) # of another store: copied
        self.assertEqual((result.returncode, result.stderr), (OK, b""))

    def test_get_finds_bytes_that_changed_behind_their_checksum(self):
        for size in (9, 20_000_000):
            self.write("a", bytes(size))
            self.run_ok("put", "a", "b")
            wanted = self.crc(bytes(size))
            self.flip("b", size - 3)
            got = self.crc(self.read("b"))
            says = ["/b", "wanted crc32c:" + wanted, "got crc32c:" + got]
            self.assert_data_loss(says, "get", "--verify", "b", "out")
            self.assert_data_loss(says, "get", "--verify", "b")
            self.assertEqual(self.run_ok("get", "b"), self.read("b")) # only if it is asked for

    def test_cp_finds_a_source_that_is_not_what_its_store_says(self):
        self.write("a", bytes(3_000_000))
        self.run_ok("put", "a", "b")
        self.flip("b", 7)
        result = self.run_flat("cp", "--verify", "b", self.flat("b"))
        self.assertEqual(result.returncode, DATA)
        self.assertRegex(result.stderr, b"/b: checksum: wanted crc32c:.*, got crc32c:")
        self.assertEqual(self.run_flat("stat", self.flat("b")).returncode, NOT_FOUND)

    def test_what_a_store_garbles_is_found(self):
        for data in (b"data", os.urandom(20_000_000)):
            self.write("a", data)
            for verb in ("put", "cp"):
                bad = self.run_flat(verb, "--verify", "a", self.flat("x"),
                                    env={"FLAT_FAULT": "flip:x"})
                self.assertEqual(bad.returncode, DATA)
                self.assertIn(b"flat://b/x: checksum: wanted crc32c:" +
                              self.crc(data).encode() + b", got crc32c:", bad.stderr)
                unasked = self.run_flat(verb, "a", self.flat("x"), env={"FLAT_FAULT": "flip:x"})
                self.assertEqual(unasked.returncode, OK)
                self.assertEqual(self.run_flat("rm", self.flat("x")).returncode, OK)

    def test_identical_object_is_looked_at_again(self):
        self.write("a", bytes(100))
        self.run_ok("put", "a", "b")
        self.run_ok("put", "a", "c")
        self.flip("c", 5)
        self.run_ok("cp", "b", "c") # its checksum says that it is the same
        self.assert_fails(DATA, ["/c", "wanted crc32c:", "got crc32c:"], "cp", "--verify", "b",
                          "c")

    def test_what_cannot_be_verified_is_said_even_when_quiet(self):
        self.write("plain", b"no checksum beside it")
        for quiet in ((), ("-q",)):
            result = self.run_raw("get", "--verify", *quiet, "plain")
            self.assertEqual((result.returncode, result.stdout), (OK, b"no checksum beside it"))
            self.assertEqual(result.stderr, b"penstock: get: " + self.uri("plain").encode() +
                             b": verified: no, the store keeps no CRC of it\n")
        self.run_ok("put", "plain", "b")
        result = self.run_raw("get", "--verify", "--length", "4", "b")
        self.assertEqual((result.returncode, result.stdout), (OK, b"no c"))
        self.assertIn(b"verified: no, the store keeps no CRC of just these bytes", result.stderr)


    def test_a_range_of_no_bytes_is_a_file_of_none(self):
        self.write("a", b"data")
        for offset in ("0", "4"):
            result = self.run_raw("get", "--verify", "--stats", "--json", "--offset", offset,
                                  "--length", "0", "a", "b")
            self.assertEqual((result.returncode, self.read("b")), (OK, b""), result.stderr)
            facts = json.loads(result.stderr.splitlines()[-1])
            self.assertEqual((facts["bytes"], facts["checksum"]), (0, "crc32c:00000000"))

    def test_parts_longer_or_shorter_than_ranges_may_be_are_read_back(self):
        self.write("a", os.urandom(10_000))
        for size in ("1000", "2GiB"):
            self.run_ok("put", "--verify", "--memory", "4GiB", "--part-size", size, "a", "b")
            self.run_ok("cp", "--verify", "--memory", "4GiB", "--part-size", size, "b", "c")
            self.run_ok("get", "--verify", "--memory", "4GiB", "--part-size", size, "c", "d")
            self.assertEqual(self.read("d"), self.read("a"))
            os.remove(self.path("c"))


class Stats(Flow):
    def test_facts_of_a_put_and_a_get(self):
        data = os.urandom(20_000_000)
        self.write("a", data)
        facts = self.stats("put", "--part-size", "4MiB", "--concurrency", "2", "a", "b")
        self.assertEqual((facts["command"], facts["objects"], facts["bytes"],
                          facts["stored_bytes"], facts["ratio"], facts["parts"]),
                         ("put", 1, len(data), len(data), 1, 5))
        self.assertEqual(facts["checksum"], "crc32c:" + self.crc(data))
        self.assertEqual(facts["stores"], [{"uri": self.uri("b"), "plugin": "file", "note": ""}])
        facts = self.stats("get", "--part-size", "4MiB", "--concurrency", "2", "b", "c")
        self.assertEqual((facts["command"], facts["bytes"], facts["ranges"],
                          facts["range_bytes_most"], facts["checksum"]),
                         ("get", len(data), 5, 4 << 20, "crc32c:" + self.crc(data)))
        self.assertLessEqual(facts["ranges_at_once_most"], 2)
        for name in ("seconds", "cpu_seconds", "bytes_per_second", "peak_in_flight_bytes",
                     "budget_bytes"):
            self.assertGreater(facts[name], 0, name)
        for name in ("retries", "hedges", "hedges_won", "verified", "not_verified"):
            self.assertEqual(facts[name], 0, name)

    def test_a_file_as_long_as_all_parts_or_one_of_them_is_put(self):
        self.write("a", os.urandom(10_000)) # as many parts as that store takes, all full
        result = self.run_flat("put", "--part-size", "1", "a", self.flat("x"))
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        self.assertEqual(self.stats("put", "--part-size", "10000", "a", "b")["parts"], 0)
        self.assertEqual(self.stats("put", "--part-size", "9999", "a", "b")["parts"], 2)

    def test_text_is_lines_on_stderr_that_name_the_stores(self):
        self.write("a", b"123456789")
        result = self.run_raw("put", "--stats", "-q", "a", "b")
        self.assertEqual((result.returncode, result.stdout), (OK, b""))
        lines = result.stderr.decode().splitlines()
        self.assertEqual(len(lines), 3, lines)
        self.assertRegex(lines[0], r"^penstock: put: stats: 9 bytes, crc32c:e3069283, in [\d.]+ s, "
                                   r"[\d.]+ GB/s, [\d.]+ s of processor$")
        for word in ("ranges 0", "parts 0", "retries 0", "hedges 0", "in flight of", "mapped"):
            self.assertIn(word, lines[1])
        self.assertEqual(lines[2], f"penstock: put: stats: {self.uri('b')}: plugin file")

    def test_memory_that_holds_no_part_is_refused_with_both_sizes(self):
        self.write("a", bytes(20_000_000))
        for verb, place in (("get", "b"), ("put", "b"), ("cp", self.flat("b"))):
            result = self.run_flat(verb, "--memory", "1MiB", "--part-size", "8MiB", "a", place)
            self.assertEqual(result.returncode, USAGE, (verb, result.stderr))
            self.assertIn(b"8388608", result.stderr)
            self.assertIn(b"1048576", result.stderr)
            self.assertFalse(os.path.exists(self.path("b")))

    def test_memory_in_flight_stays_within_what_was_given(self):
        self.write("a", bytes(40_000_000))
        for verb in ("put", "get", "cp"):
            facts = self.stats(verb, "--memory", "8MiB", "a", verb)
            self.assertLessEqual(facts["peak_in_flight_bytes"], 8 << 20, verb)
            self.assertEqual(facts["budget_bytes"], 8 << 20)

    def test_json_of_nothing_is_a_usage_error(self):
        self.write("a")
        for verb in (("get", "a"), ("cp", "a", "b"), ("sync", ".", "../b")):
            self.assert_fails(USAGE, "--json is about --stats", *verb, "--json")

    def test_transfers_tell_both_stores_and_all_objects(self):
        for i in range(5):
            self.write(f"t/{i}", bytes(1000))
        self.write("t/large", bytes(20_000_000))
        facts = self.stats("sync", "--part-size", "8MiB", "t", "u")
        self.assertEqual((facts["objects"], facts["bytes"]), (6, 20_005_000))
        self.assertEqual([s["uri"] for s in facts["stores"]], [self.uri("t"), self.uri("u")])
        for verb in (("cp", "-r"), ("upload", "-r"), ("download", "-r"), ("mv", "-r")):
            facts = self.stats(*verb, "--verify", "--concurrency", "3", "u", "v/")
            self.assertEqual(facts["command"], verb[0])


main()

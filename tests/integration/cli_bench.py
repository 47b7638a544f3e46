"""penstock bench: every load, its JSON, its errors, and that it leaves nothing; bench/plot."""
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as tree

from cli_support import (CONFLICT, INTERRUPTED, NOT_FOUND, OK, PENSTOCK, SOURCE, USAGE, Case, main,
                         snapshot)

PLOT = os.path.join(SOURCE, "bench/plot")
LOADS = {"get": {"get"}, "put": {"put"}, "mixed": {"get", "put"}, "list": {"list"}}
SMALL = ("--size", "20000", "--count", "60")


class Bench(Case):
    def bench(self, kind, *args):
        return json.loads(self.run_ok("bench", kind, "--json", *args, self.uri("b")))


class Loads(Bench):
    def test_every_load_is_reported_as_text_and_leaves_nothing(self):
        for kind, ops in LOADS.items():
            text = self.run_ok("bench", kind, *SMALL, self.uri("b/deep/")).decode()
            self.assertIn(f"{kind} {self.uri('b/deep/')} (plugin file): 60 objects of 19.5 KiB",
                          text)
            for op in ops:
                self.assertRegex(text, rf"(?m)^{op} +\d+ +0 +[\d.]+ +[\d.]+( +\d+){{5}}$")
            for word in ("p99.9", "processor: ", "us per operation", "memory: peak "):
                self.assertIn(word, text)
            self.assertEqual(os.listdir(self.top), [], kind)

    def test_parts_shorter_than_ranges_may_be_are_written_and_read(self):
        for kind, ops in (("get", ("get",)), ("mixed", ("get", "put"))):
            facts = self.bench(kind, "--size", "5000", "--count", "20", "--part-size", "1000")
            for op in ops:
                self.assertEqual(facts["operations"][op]["failed"], 0)

    def test_json_has_the_documented_members(self):
        for kind, ops in LOADS.items():
            facts = self.bench(kind, *SMALL)
            self.assertEqual((facts["schema"], facts["schema_version"], facts["kind"]),
                             ("penstock-bench", 1, kind))
            self.assertEqual((facts["uri"], facts["plugin"]), (self.uri("b"), "file"))
            self.assertEqual(set(facts["operations"]), ops)
            self.assertEqual((facts["options"]["size_bytes"], facts["options"]["objects"],
                              facts["options"]["driver"]),
                             (20000, 60, "threads" if kind == "list" else "queue"))
            for count in facts["operations"].values():
                latency = count["latency_ns"]
                order = [latency[key] for key in ("min", "p50", "p90", "p99", "p99_9", "max")]
                self.assertEqual(order, sorted(order))
                self.assertGreater(order[0], 0)
                self.assertEqual((count["failed"], count["errors"]), (0, {}))
                if kind == "list":
                    self.assertEqual((count["done"], count["entries"]), (10, 600))
                else:
                    self.assertEqual(count["bytes"], count["done"] * 20000)
                self.assertGreater(count["operations_per_second"], 0)
            if kind in ("get", "put"):
                self.assertEqual(facts["operations"][kind]["done"], 60)
            if kind == "mixed":
                self.assertEqual(sum(c["done"] for c in facts["operations"].values()), 60)
            self.assertGreater(facts["seconds"], 0)
            self.assertGreater(facts["cpu"]["ns_per_operation"], 0)
            self.assertGreater(facts["memory"]["peak_rss_bytes"], 1 << 20)
            self.assertGreater(facts["memory"]["budget_bytes"], 0)
            self.assertEqual(os.listdir(self.top), [], kind)

    def test_documented_schema_is_the_one_that_is_printed(self):
        with open(os.path.join(SOURCE, "docs/cli.md"), encoding="utf-8") as f:
            text = f.read()
        part = text[text.index("### JSON of `bench`"):]

        def names(value):
            for key, inner in value.items():
                yield key
                if isinstance(inner, dict) and key != "errors":
                    yield from names(inner)
        for key in names(self.bench("mixed", *SMALL)):
            self.assertIn(f"`{key}`", part)

    def test_duration_goes_round_the_objects_and_warmup_does_not_count(self):
        facts = self.bench("put", "--size", "1k", "--count", "3", "--duration", "300ms",
                           "--warmup", "50ms")
        self.assertGreater(facts["operations"]["put"]["done"], 3)
        self.assertGreaterEqual(facts["seconds"], 0.3)
        self.assertEqual(os.listdir(self.top), [])

    def test_share_of_reads_is_kept_and_seeded(self):
        some = [self.bench("mixed", "--size", "0", "--count", "200", "--gets", "25", *seed)
                ["operations"]["get"]["done"] for seed in ((), (), ("--seed", "9"))]
        self.assertEqual(some[0], some[1])
        self.assertTrue(all(25 < n < 75 for n in some), some)
        self.assertEqual(set(self.bench("mixed", *SMALL, "--gets", "100")["operations"]), {"get"})

    def test_parts_are_read_and_written_on_threads(self):
        for kind in ("get", "put", "mixed"):
            facts = self.bench(kind, "--size", "3MiB", "--count", "4", "--part-size", "1MiB",
                               "--concurrency", "2")
            self.assertEqual((facts["options"]["driver"], facts["options"]["part_bytes"]),
                             ("threads", 1 << 20))
            self.assertEqual(sum(c["done"] for c in facts["operations"].values()), 4)

    def test_compressed_objects_are_written_and_read(self):
        for kind in ("get", "put", "mixed"):
            facts = self.bench(kind, "--size", "3MiB", "--count", "4", "--compress", "1")
            self.assertEqual(facts["options"]["zstd_level"], 1)
            for count in facts["operations"].values():
                self.assertEqual(count["bytes"], count["done"] * (3 << 20))
                self.assertGreater(count["stored_bytes"], count["bytes"]) # they do not compress
        self.assertEqual(os.listdir(self.top), [])

    def test_many_under_way_need_no_threads(self):
        facts = self.bench("get", "--size", "100", "--count", "2000", "--concurrency", "1000")
        self.assertEqual(facts["operations"]["get"]["done"], 2000)
        self.assertLess(facts["library"]["threads"], 200)


class Objects(Bench):
    def test_kept_objects_differ_and_cannot_be_compressed(self):
        result = self.run_raw("bench", "put", *SMALL, "--keep", self.uri("b"))
        self.assertEqual(result.returncode, OK)
        self.assertIn(b"60 objects stay in " + self.uri("b/penstock-bench-").encode(),
                      result.stderr)
        paths = [os.path.join(d, f) for d, _, files in os.walk(self.path("b")) for f in files]
        bodies = set()
        for path in paths:
            with open(path, "rb") as f:
                bodies.add(f.read())
        self.assertEqual((len(paths), len(bodies)), (60, 60))
        for body in list(bodies)[:5]:
            packed = subprocess.run(["gzip", "-9"], input=body, capture_output=True, check=True)
            self.assertGreater(len(packed.stdout), 20000)

    def test_existing_objects_are_read_and_left_alone(self):
        for i in range(7):
            self.write(f"b/d{i % 2}/{i}", bytes(100 * i))
        before = snapshot(self.top)
        facts = self.bench("get", "--existing")
        self.assertEqual((facts["operations"]["get"]["done"], facts["operations"]["get"]["bytes"]),
                         (7, 2100))
        self.assertNotIn("size_bytes", facts["options"])
        self.assertEqual(self.bench("get", "--existing", "--count", "3")["options"]["objects"], 3)
        facts = self.bench("list", "--existing", "--count", "3")
        self.assertEqual(facts["operations"]["list"]["entries"], 70)
        self.assertEqual(snapshot(self.top), before)
        self.assert_fails(NOT_FOUND, "holds no object", "bench", "get", "--existing", "none")

    def test_what_is_not_empty_is_refused_unless_told(self):
        self.write("b/mine", b"mine")
        for kind in LOADS:
            self.assert_fails(CONFLICT, ["is not empty", "'" + self.path("b/mine")[1:],
                                         "--not-empty"], "bench", kind, *SMALL, "b")
            before = snapshot(self.path("b/mine"))
            self.bench(kind, *SMALL, "--not-empty")
            self.assertEqual(snapshot(self.path("b/mine")), before)
            self.assertEqual(os.listdir(self.path("b")), ["mine"])

    def test_wrong_values_are_usage_errors(self):
        for says, *args in (
                ("not between 1 and 22", "get", "--compress", "0"),
                ("not between 1 and 22", "put", "--compress", "23"),
                ("not between 1 and 4096", "get", "--concurrency", "0"),
                ("not between 0 and 100", "mixed", "--gets", "101"),
                ("not a duration", "get", "--duration", "10"),
                ("did you mean '--duration'", "get", "--durration", "10s"),
                ("--size has no meaning", "get", "--existing", "--size", "1"),
                ("unknown option", "put", "--existing")):
            self.assert_fails(USAGE, says, "bench", *args, "b")
        self.assert_fails(USAGE, "'nope'", "bench", "get", "nope://x/")
        self.assert_fails(USAGE, "get, put, mixed, list", "bench", "read", "b")
        self.assert_fails(USAGE, "needs one of", "bench")

    def test_failures_are_counted_by_code_and_the_first_is_said(self):
        self.write("file")
        result = self.run_raw("bench", "put", "--json", *SMALL, "file/below")
        self.assertEqual(result.returncode, USAGE)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
        put = json.loads(result.stdout)["operations"]["put"]
        self.assertEqual((put["done"], put["failed"], sum(put["errors"].values())), (0, 60, 60))


class Interruption(Bench):
    def test_interrupted_run_removes_what_it_made(self):
        for kind, code, number in (("get", INTERRUPTED, signal.SIGINT),
                                   ("put", INTERRUPTED, signal.SIGINT),
                                   ("mixed", 128 + 15, signal.SIGTERM),
                                   ("list", INTERRUPTED, signal.SIGINT)):
            self.write("b/mine", b"mine")
            with subprocess.Popen(
                    [PENSTOCK, "bench", kind, "--count", "50", "--size", "100k", "--duration",
                     "1h", "--not-empty", "b"], cwd=self.top, env=self.env,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
                end = time.monotonic() + 30
                while not any("-00000049" in name for _, _, files in os.walk(self.path("b"))
                              for name in files):
                    self.assertIsNone(child.poll())
                    self.assertLess(time.monotonic(), end)
                child.send_signal(number)
                out, err = child.communicate(timeout=30)
            self.assertEqual((child.returncode, out, err), (code, b"", b""), kind)
            self.assertEqual(os.listdir(self.path("b")), ["mine"], kind)


class Plot(Bench):
    def plot(self, *args):
        return subprocess.run([sys.executable, PLOT, *args], cwd=self.top, capture_output=True,
                              text=True, check=False)

    def test_svg_is_well_formed_and_labelled(self):
        results = [self.run_ok("bench", kind, "--json", *SMALL, "b").decode()
                   for kind in ("get", "mixed")]
        self.write("a<b>&.json", results[0].encode())
        self.write("two.json", (results[0] + results[1]).encode())
        done = self.plot("--title", "x < y & z", "out.svg", "a<b>&.json", "two.json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        root = tree.fromstring(self.read("out.svg"))
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
        for word in ("x < y & z", "throughput (GB/s)", "latency (µs, logarithmic)",
                     "percentile of operations", "p99.9"):
            self.assertIn(word, words)
        legend = " ".join(words)
        for label in ("a<b>& get: ", "two #1 get: ", "two #2 get: ", "two #2 put: "):
            self.assertIn(label, legend)
        lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
        self.assertEqual(len({line.get("stroke") for line in lines}), 4)

    def test_listing_is_drawn_in_operations(self):
        self.write("l.json", self.run_ok("bench", "list", "--json", *SMALL, "b"))
        self.assertEqual(self.plot("out.svg", "l.json").returncode, 0)
        self.assertIn(b"throughput (operations/s)", self.read("out.svg"))

    def test_what_is_no_result_is_refused_with_its_place(self):
        good = self.run_ok("bench", "get", "--json", *SMALL, "b")
        for content in (b"{}", b"[1]", b"nonsense",
                        good.replace(b'"schema_version":1', b'"schema_version":2')):
            self.write("bad.json", good + content + b"\n")
            done = self.plot("out.svg", "bad.json")
            self.assertEqual(done.returncode, 1)
            self.assertIn("plot: bad.json:2: ", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertFalse(os.path.exists(self.path("out.svg")))


main()

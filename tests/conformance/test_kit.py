#!/usr/bin/env python3
"""test_kit.py PLUGIN: the kit as a command: selection, quirks, reports, exit codes, bad input.

The plugin is the one in memory. A requirement that fails is had by asking for a scheme that the plugin
does not serve.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

PLUGIN = sys.argv.pop(1)
PENSTOCK = os.path.join(os.environ["PST_TEST_BIN"], "penstock")
GOOD = ["--uri", "mem://box/place/", "--only", "PST-LOAD-010"]
BAD = ["--uri", "other://box/place/", "--only", "PST-LOAD-010", "--only", "PST-LOAD-009"]


def kit(*arguments):
    return subprocess.run([PENSTOCK, "conformance", *arguments], capture_output=True, text=True,
                          check=False)


class Kit(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.temp = temp.name

    def path(self, name, text=None):
        path = os.path.join(self.temp, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return path

    def test_passing_run_ends_with_totals_and_zero(self):
        done = kit(PLUGIN, *GOOD)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[:2], ["TAP version 13", "1..1"])
        self.assertTrue(lines[2].startswith("ok 1 - PST-LOAD-010 "))
        self.assertEqual(lines[-1], "1 passed, 0 failed, 0 skipped")

    def test_failure_says_expected_got_and_rule(self):
        done = kit(PLUGIN, *BAD)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not ok 2 - PST-LOAD-010 ", done.stdout)
        self.assertIn("#   expected the scheme other of the URI among them, got others",
                      done.stdout)
        self.assertIn("#   rule: plugin.h, pst_plugin", done.stdout)
        self.assertTrue(done.stdout.endswith("1 passed, 1 failed, 0 skipped\n"))

    def test_quirk_is_reported_and_does_not_fail_the_run(self):
        quirks = self.path("quirks.json", '{"PST-LOAD-010": "we serve it anyway"}')
        report = self.path("report.json")
        done = kit(PLUGIN, *BAD, "--quirks", quirks, "--json", report)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("# SKIP quirk: we serve it anyway", done.stdout)
        self.assertIn("1 of the skipped are declared quirks", done.stdout)
        with open(report, encoding="utf-8") as f:
            results = json.load(f)
        self.assertEqual(results["quirks"], 1)
        self.assertEqual(results["results"][1]["quirk"], "we serve it anyway")

    def test_quirk_that_was_not_seen_is_told(self):
        quirks = self.path("quirks.json", '{"PST-LOAD-010": "old"}')
        done = kit(PLUGIN, *GOOD, "--quirks", quirks)
        self.assertEqual(done.returncode, 0)
        self.assertIn("the quirk PST-LOAD-010 is declared but was not seen", done.stdout)

    def test_quirks_file_with_mistakes_is_refused(self):
        for text in ("{", "[]", '{"PST-NONE-001": "x"}', '{"PST-LOAD-010": ""}',
                     '{"PST-LOAD-010": 7}'):
            done = kit(PLUGIN, *GOOD, "--quirks", self.path("quirks.json", text))
            self.assertEqual(done.returncode, 2, text)
            self.assertEqual(done.stdout, "")
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_reports_agree_with_the_lines(self):
        report, junit = self.path("report.json"), self.path("report.xml")
        done = kit(PLUGIN, *BAD, "--json", report, "--junit", junit)
        self.assertEqual(done.returncode, 1)
        with open(report, encoding="utf-8") as f:
            results = json.load(f)
        self.assertEqual([r["result"] for r in results["results"]], ["passed", "failed"])
        self.assertEqual((results["passed"], results["failed"], results["skipped"]), (1, 1, 0))
        self.assertIn("expected the scheme other", results["results"][1]["details"])
        suite = ElementTree.parse(junit).getroot()
        self.assertEqual((suite.get("tests"), suite.get("failures")), ("2", "1"))
        self.assertIn("expected the scheme other", suite.find(".//failure").text)

    def test_report_that_cannot_be_written_is_an_error(self):
        done = kit(PLUGIN, *GOOD, "--json", "/nowhere/at/all.json")
        self.assertEqual(done.returncode, 8)

    def test_group_is_selected_by_its_name(self):
        done = kit(PLUGIN, "--uri", "mem://box/", "--only", "PST-LOAD")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("1..20\n", done.stdout)

    def test_list_names_every_requirement_once(self):
        listed = [line.split()[0] for line in kit("--list").stdout.splitlines()]
        self.assertGreater(len(listed), 100)
        self.assertEqual(len(listed), len(set(listed)))

    def test_what_is_no_plugin_fails_and_does_not_crash_the_kit(self):
        text = self.path("text.so", "this is not a shared object\n" * 100)
        done = kit(text, "--uri", "mem://box/", "--only", "PST-LOAD")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not ok 1 - PST-LOAD-001", done.stdout)
        self.assertTrue(done.stdout.endswith("0 passed, 20 failed, 0 skipped\n"), done.stdout)

    def test_profile_ro_without_objects_fails(self):
        done = kit(PLUGIN, "--uri", "mem://box/", "--profile", "ro", "--only", "PST-READ-001")
        self.assertEqual(done.returncode, 1)
        self.assertIn("expected at least one object under the URI", done.stdout)

    def test_usage_errors_are_one_line_and_two(self):
        for arguments in ([], [PLUGIN], ["--uri", "mem://box/"], [PLUGIN, "--uri", "nothing"],
                          [PLUGIN, "--uri", "mem://box/no-slash"],
                          [PLUGIN, *GOOD, "--profile", "all"], [PLUGIN, *GOOD, "--timeout", "0"],
                          [PLUGIN, *GOOD, "-o", "novalue"], [PLUGIN, *GOOD, "--no-such-option"],
                          ["/nowhere.so", *GOOD], ["static:nothing", *GOOD],
                          [PLUGIN, "--uri", "mem://box/", "--only", "PST-NONE-001"],
                          [PLUGIN, PLUGIN, *GOOD]):
            done = kit(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertEqual(done.stdout, "")
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_option_that_the_plugin_does_not_declare_is_told(self):
        done = kit(PLUGIN, "--uri", "mem://box/", "--only", "PST-LOAD-013", "-o", "colour=red")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the option -o colour is not one that the plugin declares", done.stdout)


unittest.main(verbosity=1)

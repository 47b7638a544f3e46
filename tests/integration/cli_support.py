"""What the tests of the command share: run it, and compare what is on disk before and after.

Every test case has a directory of its own as working directory and an environment without PENSTOCK_
variables. The command is build/<preset>/bin/penstock, its plugins are those of the build tree.
"""
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

PENSTOCK = os.path.join(os.environ["PST_TEST_BIN"], "penstock")
PLUGINS = os.environ["PST_TEST_PLUGINS"]
SOURCE = os.environ["PST_TEST_SOURCE"]

OK, SOME_FAILED, USAGE, NOT_FOUND, DENIED, UNAVAILABLE, CONFLICT, DATA, IO = range(9)
INTERRUPTED = 130


def snapshot(top):
    """Everything below `top`: kind, mode, time, content."""
    seen = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in names + files + [b"."]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as f:
                    content = hashlib.sha256(f.read()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            seen[path] = (status.st_mode, status.st_mtime_ns, content)
    return seen


class Case(unittest.TestCase):
    def setUp(self):
        self.top = os.path.realpath(tempfile.mkdtemp(prefix="penstock-cli."))
        os.chmod(self.top, 0o755)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.top, *names)

    def uri(self, *names):
        return "file://" + self.path(*names)

    def write(self, name, data=b"data"):
        path = os.path.join(os.fsencode(self.top), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def read(self, name):
        with open(os.path.join(os.fsencode(self.top), os.fsencode(name)), "rb") as f:
            return f.read()

    def run_raw(self, *args, stdin=b"", command=PENSTOCK, env=None, timeout=100, **more):
        env = {**self.env, **(env or {})}
        return subprocess.run([command, *args], input=stdin, capture_output=True, cwd=self.top,
                              env=env, check=False, timeout=timeout, **more)

    def run_ok(self, *args, **more):
        """Run, demand success and silence on stderr; returns stdout."""
        result = self.run_raw(*args, **more)
        self.assertEqual((result.returncode, result.stderr), (OK, b""), args)
        return result.stdout

    def assert_fails(self, code, says, *args, stdout=b"", **more):
        """One line on stderr that begins as it must and holds `says`, and nothing on disk changed."""
        before = snapshot(self.top)
        result = self.run_raw(*args, **more)
        text = result.stderr.decode("utf-8", "replace")
        self.assertEqual(result.returncode, code, (args, text))
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("penstock: ") and text.endswith("\n"), text)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, text)
        if stdout is not None:
            self.assertEqual(result.stdout, stdout)
        self.assertEqual(snapshot(self.top), before, "something changed")
        return text


class Flow(Case):
    """For options about bytes: a store of another plugin, checksums that lie, facts of --stats."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("flat"))
        os.mkdir(self.path("flat/b"))
        self.env["FLAT_DIR"] = self.path("flat")

    def flat(self, key):
        return "flat://b/" + key

    def run_flat(self, *args, **more):
        return self.run_raw(*args, "--plugin-dir", os.environ["PST_TRANSFER_PLUGINS"], **more)

    def stats(self, *args, **more):
        """Run with --stats; the facts that it tells."""
        result = self.run_raw(*args, "--stats", "--json", **more)
        self.assertEqual(result.returncode, OK, result.stderr)
        return json.loads(result.stderr.splitlines()[-1])

    def crc(self, data):
        self.write("crc-of", data)
        facts = json.loads(self.run_ok("put", "--json", "crc-of", "crc-copy"))
        os.remove(self.path("crc-of"))
        os.remove(self.path("crc-copy"))
        return facts["crc32c"]

    def flip(self, name, at):
        """Change a byte and let the checksum beside it say that nothing happened."""
        sums = os.getxattr(self.path(name), "user.penstock.sums").split()
        with open(self.path(name), "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
        # Size, time of the last change of the bytes, and the time at which that was written down.
        for _ in range(50):
            state = os.stat(self.path(name))
            os.setxattr(self.path(name), "user.penstock.sums",
                        b" ".join([sums[0], b"%d" % state.st_mtime_ns, b"%d" % time.time_ns(),
                                   *sums[3:]]))
            facts = json.loads(self.run_ok("stat", "--json", name))
            if {"algorithm": "CRC32C", "scope": "object",
                    "value": sums[3].decode().split(":")[1]} in facts["sums"]:
                return
        self.fail(facts)


    def assert_data_loss(self, says, *args):
        """Exit 7, one line, no file. (The directory's time may change: a temporary name was there.)"""
        result = self.run_raw(*args)
        self.assertEqual(result.returncode, DATA, result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
        for part in says:
            self.assertIn(part.encode(), result.stderr)
        self.assertEqual([n for n in os.listdir(self.top) if n.startswith(("out", ".pen"))], [])


class TapResult(unittest.TestResult):
    """One line a case, as the totals of CI count them; what went wrong follows it."""

    def line(self, verdict, test, text=""):
        print(f"{verdict} {self.testsRun} - {test.id()}")
        for line in text.splitlines():
            print(f"# {line}")
        sys.stdout.flush()

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("not ok", test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.line("not ok", test, self.errors[-1][1])


class TapRunner:
    def run(self, suite):
        result = TapResult()
        suite(result)
        print(f"1..{result.testsRun}")
        return result


def main():
    """Run the cases of the calling file, or those named on the command line."""
    unittest.main(testRunner=TapRunner())

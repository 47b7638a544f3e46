"""What `import penstock` does, and where it refuses."""
import importlib
import os
import subprocess
import sys
import unittest

import penstock


def run(code, *options):
    """The output of a program of its own, which must succeed."""
    done = subprocess.run([sys.executable, "-B", *options, "-c", code], capture_output=True,
                          text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


class Import(unittest.TestCase):
    def test_version_is_that_of_the_core(self):
        self.assertRegex(penstock.__version__, r"^\d+\.\d+\.\d+$")

    def test_all_names_exist_and_none_twice(self):
        self.assertEqual([n for n in penstock.__all__ if not hasattr(penstock, n)], [])
        self.assertEqual(len(penstock.__all__), len(set(penstock.__all__)))

    def test_needs_no_package_but_the_standard_library(self):
        code = ("import sys, penstock\n"
                "print([m for m in ('numpy', 'torch', 'jax', 'tensorflow', 'fsspec', 'tqdm')"
                " if m in sys.modules])")
        self.assertEqual(run(code), "[]")

    def test_starts_no_thread_and_does_not_map_the_network_library(self):
        code = ("import os, penstock\n"
                "maps = open('/proc/self/maps').read()\n"
                "print(len(os.listdir('/proc/self/task')), 'penstock-net' in maps, 'curl' in maps)")
        self.assertEqual(run(code), "1 False False")

    def test_prints_nothing_and_leaves_signals_alone(self):
        code = ("import signal\n"
                "before = [signal.getsignal(s) for s in signal.valid_signals()]\n"
                "import penstock\n"
                "assert before == [signal.getsignal(s) for s in signal.valid_signals()]")
        self.assertEqual(run(code), "")

    def test_extension_is_of_the_stable_abi(self):
        from penstock import _penstock
        self.assertTrue(_penstock.__file__.endswith(".abi3.so"), _penstock.__file__)

    def test_import_after_it_was_forgotten_gives_the_same_types(self):
        view, error = penstock.BytesView, penstock.NotFoundError
        kept = {name: sys.modules.pop(name) for name in list(sys.modules)
                if name.split(".")[0] == "penstock"}
        try:
            again = importlib.import_module("penstock")
            self.assertIs(again.BytesView, view)
            self.assertIs(again.NotFoundError, error)
        finally:
            sys.modules.update(kept)

    def test_imported_by_another_thread(self):
        code = ("import threading\n"
                "def use():\n"
                "    import penstock\n"
                "    print(bytes(penstock.BytesView(b'x')).decode())\n"
                "thread = threading.Thread(target=use)\n"
                "thread.start(); thread.join()")
        self.assertEqual(run(code), "x")

    def test_stats(self):
        stats = penstock.stats()
        self.assertGreater(stats["budget_bytes"], 0)
        self.assertTrue(all(isinstance(v, int) for v in stats.values()))


class Refusals(unittest.TestCase):
    def test_subinterpreter(self):
        code = ("import os\n"
                "try: import _interpreters as interpreters\n"
                "except ImportError: import _xxsubinterpreters as interpreters\n"
                "import penstock\n"
                "r, w = os.pipe()\n"
                "inside = f'''\n"
                "import os\n"
                "try:\n"
                "    import penstock\n"
                "    text = 'imported'\n"
                "except ImportError as e:\n"
                "    text = str(e)\n"
                "os.write({w}, text.encode())\n"
                "'''\n"
                "interpreters.run_string(interpreters.create(), inside)\n"
                "print(os.read(r, 1000).decode())\n"
                "print(bytes(penstock.BytesView(b'x')).decode())")
        refusal, after = run(code).splitlines()
        self.assertIn("subinterpreters", refusal)
        self.assertEqual(after, "x")

    def test_free_threaded_interpreter(self):
        code = ("import sys\n"
                "sys.abiflags += 't'\n"
                "try: import penstock\n"
                "except ImportError as e: print(e)")
        self.assertIn("free-threaded", run(code))

    def test_core_that_is_missing_is_an_import_error(self):
        from penstock import _penstock
        code = ("import importlib.util\n"
                f"path = {_penstock.__file__!r}\n"
                "import shutil, tempfile, os\n"
                "with tempfile.TemporaryDirectory() as d:\n"
                "    copy = shutil.copy(path, d)\n"
                "    try: importlib.util.module_from_spec(\n"
                "        importlib.util.spec_from_file_location('penstock._penstock', copy))\n"
                "    except ImportError as e: print(e)")
        self.assertIn("libpenstock.so.1", run(code))


class Process(unittest.TestCase):
    def test_views_are_shared_with_a_fork_child(self):
        view = penstock.BytesView(b"inherited")
        pid = os.fork()
        if pid == 0:
            same = bytes(view) == b"inherited" and penstock.BytesView(b"own") == b"own"
            os._exit(0 if same else 1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_exit_with_views_alive(self):
        code = ("import penstock\n"
                "view = penstock.BytesView(bytes(1 << 20))\n"
                "kept = [memoryview(view), view[5:]]\n"
                "import builtins; builtins.kept = kept")
        self.assertEqual(run(code), "")


if __name__ == "__main__":
    unittest.main()

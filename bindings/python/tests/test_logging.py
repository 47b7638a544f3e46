"""The core's log in Python's logging, under the name penstock."""
import os
import subprocess
import sys
import unittest


def run(code, **environment):
    done = subprocess.run([sys.executable, "-B", "-c", code, os.path.dirname(__file__)],
                          capture_output=True, text=True, timeout=60,
                          env={**os.environ, **environment})
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout, done.stderr


# A folder of plugins that is not there is told at the level of INFO when the context is made.
ABSENT = {"PENSTOCK_PLUGIN_PATH": "/penstock/is/not/here"}


class Logging(unittest.TestCase):
    def test_lines_come_at_the_level_of_the_logger(self):
        code = ("import logging, sys\n"
                "logging.basicConfig(stream=sys.stdout, format='%(name)s %(levelname)s %(message)s',\n"
                "                    level=logging.{level})\n"
                "import penstock\n"
                "penstock.stats()")
        out, err = run(code.format(level="INFO"), **ABSENT)
        self.assertRegex(out, r"(?m)^penstock INFO plugin skipped: .*/penstock/is/not/here")
        self.assertEqual(err, "")
        out, err = run(code.format(level="WARNING"), **ABSENT)
        self.assertEqual((out, err), ("", ""))

    def test_without_logging_nothing_is_said(self):
        self.assertEqual(run("import penstock; penstock.stats()", **ABSENT), ("", ""))

    def test_warning_is_shown_to_nobody_who_set_up_no_logging(self):
        code = ("{setup}\n"
                "import penstock\n"
                "store = penstock.Store('s3://bucket/', {{'endpoint': 'http://127.0.0.1:1'}},\n"
                "                       credentials=lambda uri: None)\n"
                "try: store.get('key')\n"
                "except penstock.Error: pass\n"
                "for _ in range(1000): pass")
        self.assertEqual(run(code.format(setup="")), ("", ""))
        out, err = run(code.format(setup="import logging; logging.basicConfig()"))
        self.assertEqual(out, "")
        self.assertIn("WARNING:penstock:", err)

    def test_line_comes_in_the_main_thread_while_the_program_runs(self):
        code = ("import logging, threading, time\n"
                "seen = []\n"
                "class Handler(logging.Handler):\n"
                "    def emit(self, record):\n"
                "        seen.append((threading.current_thread(), record.getMessage()))\n"
                "logging.getLogger('penstock').addHandler(Handler())\n"
                "logging.getLogger('penstock').setLevel(logging.DEBUG)\n"
                "import penstock\n"
                "thread = threading.Thread(target=penstock.stats)\n"
                "thread.start(); thread.join()\n"
                "while not seen: time.sleep(0.001)\n"
                "print(seen[0][0] is threading.main_thread(), 'skipped' in seen[0][1])")
        self.assertEqual(run(code, **ABSENT), ("True True\n", ""))

    def test_handler_that_raises_does_not_reach_the_program(self):
        code = ("import logging, time\n"
                "class Handler(logging.Handler):\n"
                "    def handle(self, record): raise OSError('broken handler')\n"
                "logging.getLogger('penstock').addHandler(Handler())\n"
                "logging.getLogger('penstock').setLevel(logging.DEBUG)\n"
                "import penstock\n"
                "penstock.stats()\n"
                "for _ in range(1000): pass\n"
                "print('still here')")
        out, err = run(code, **ABSENT)
        self.assertEqual(out, "still here\n")
        self.assertIn("broken handler", err)

    def test_interrupt_while_a_line_is_told_reaches_the_program(self):
        code = ("import logging, signal\n"
                "class Handler(logging.Handler):\n"
                "    def handle(self, record): signal.raise_signal(signal.SIGINT)\n"
                "logging.getLogger('penstock').addHandler(Handler())\n"
                "logging.getLogger('penstock').setLevel(logging.DEBUG)\n"
                "import penstock\n"
                "try:\n"
                "    penstock.stats()\n"
                "    for _ in range(1000): pass\n"
                "except KeyboardInterrupt: print('interrupted')")
        self.assertEqual(run(code, **ABSENT), ("interrupted\n", ""))

    def test_handler_that_itself_makes_lines_does_not_hold_the_program(self):
        code = ("import logging, os, sys\n"
                "sys.path.insert(0, sys.argv[1])\n"
                "import fake_s3\n"
                "s3 = fake_s3.FakeS3()\n"
                "os.environ.update(s3.environment())\n"
                "class Handler(logging.Handler):\n"
                "    def handle(self, record): penstock.put_bytes('s3://bucket/log', b'line')\n"
                "logging.getLogger('penstock').addHandler(Handler())\n"
                "logging.getLogger('penstock').setLevel(logging.DEBUG)\n"
                "import penstock\n"
                "penstock.exists('s3://bucket/log')\n"
                "logging.disable()\n"
                "print('went on')")
        self.assertEqual(run(code), ("went on\n", ""))


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""`up` itself: it starts what it is told, and whatever happens to it leaves nothing behind."""
import glob
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
UP = os.path.join(HERE, "up")
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
sys.dont_write_bytecode = True
import cli_support  # noqa: E402


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.02)


class Up(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="penstock-up.")
        self.env = {**os.environ, "TMPDIR": self.top}
        self.addCleanup(os.rmdir, self.top)  # which must be empty by then

    def start(self, *names):
        """up, and when its command runs: its Popen and the folder of the servers."""
        process = subprocess.Popen(
            [UP, *names, "--", "sh", "-c", "echo $$ $PST_SERVERS_DIR; exec sleep 1000"],
            env=self.env, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        pid, folder = process.stdout.readline().split()
        return process, int(pid), folder

    def pids(self, folder):
        found = []
        for path in glob.glob(folder + "/*/pid"):
            with open(path, encoding="ascii") as f:
                found.append(int(f.read()))
        return found

    def assert_gone(self, pids, folder):
        for pid in pids:
            wait_until(lambda pid=pid: not is_alive(pid), f"{pid} lives")
        wait_until(lambda: not os.path.exists(folder), f"{folder} is there")

    def check_signal(self, number):
        process, command, folder = self.start("minio", "toxiproxy")
        pids = self.pids(folder)
        self.assertEqual(len(pids), 2)
        process.send_signal(number)
        process.wait(30)
        self.assert_gone(pids + [command], folder)

    def test_a_killed_up_leaves_no_server_and_no_folder(self):
        self.check_signal(signal.SIGKILL)

    def test_a_terminated_up_leaves_no_server_and_no_folder(self):
        self.check_signal(signal.SIGTERM)

    def test_the_command_is_told_where_and_its_exit_code_comes_back(self):
        done = subprocess.run(
            [UP, "toxiproxy", "nginx", "--", "sh", "-c",
             "test -n \"$PST_TOXIPROXY_ENDPOINT\" && test -d \"$PST_NGINX_ROOT\" && "
             "test -s \"$PST_NGINX_CA_FILE\" && test -z \"$AWS_PROFILE\" && exit 42"],
            env={**self.env, "AWS_PROFILE": "somebody's"}, check=False, timeout=60)
        self.assertEqual(done.returncode, 42)

    def test_several_run_side_by_side(self):
        both = [self.start("minio"), self.start("minio")]
        for process, _, folder in both:
            process.terminate()
            process.wait(30)
            self.assertFalse(os.path.exists(folder))
        self.assertNotEqual(both[0][2], both[1][2])

    def test_a_server_that_ends_by_itself_is_an_error(self):
        done = subprocess.run([UP, "toxiproxy", "--", "sh", "-c",
                               "kill -9 $(cat $PST_SERVERS_DIR/toxiproxy/pid); sleep 1"],
                              env=self.env, check=False, timeout=60, capture_output=True)
        self.assertEqual(done.returncode, 70)
        self.assertIn(b"toxiproxy ended by itself", done.stderr)

    def test_restart_brings_a_killed_server_back_with_its_port_and_data(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        script = """
            pid=$PST_SERVERS_DIR/nginx/pid old=$(cat $PST_SERVERS_DIR/nginx/pid)
            echo here >$PST_NGINX_ROOT/file
            kill -9 $old
            until [ "$(cat $pid)" != $old ]; do sleep 0.05; done
            exec python3 -c 'import sys, urllib.request
sys.exit(urllib.request.urlopen(sys.argv[1]).read() != b"here\\n")' $PST_NGINX_ENDPOINT/file
        """
        done = subprocess.run([UP, "--restart", f"nginx={port}", "--", "sh", "-c", script],
                              env=self.env, check=False, timeout=60)
        self.assertEqual(done.returncode, 0)

    def test_a_taken_port_that_was_asked_for_is_an_error(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            done = subprocess.run([UP, f"toxiproxy={s.getsockname()[1]}", "--", "true"],
                                  env=self.env, check=False, timeout=60, capture_output=True)
        self.assertEqual(done.returncode, 70, done.stderr)

    def test_what_is_not_installed_is_skipped_with_a_line(self):
        done = subprocess.run([UP, "minio", "--", "true"], check=False, capture_output=True,
                              env={**self.env, "PENSTOCK_SERVERS": self.top}, timeout=60)
        self.assertEqual((done.returncode, done.stderr),
                         (77, b"up: minio is not installed (tests/servers/install)\n"))


if __name__ == "__main__":
    cli_support.main()

"""Interruption, broken pipes, progress: how the command lives with a shell and a terminal."""
import os
import pty
import signal
import subprocess
import threading
import time

from cli_support import INTERRUPTED, OK, PENSTOCK, UNAVAILABLE, USAGE, Case, main


def wait_for(condition, what):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.005)


def has_mapped(pid, name):
    with open(f"/proc/{pid}/maps", "rb") as f:
        return name in f.read()


class Interruption(Case):
    def assert_ends(self, child, number, code):
        """Signal the child; it must be gone within a second, silently."""
        start = time.monotonic()
        child.send_signal(number)
        self.assertEqual(child.wait(timeout=20), code)
        self.assertLess(time.monotonic() - start, 1.0)
        self.assertEqual(child.stderr.read(), b"")

    def start(self, *args, **more):
        return subprocess.Popen([PENSTOCK, *args], cwd=self.top, env=self.env,
                                stderr=subprocess.PIPE, **more)

    def test_put_that_waits_for_input_ends_and_leaves_nothing(self):
        for number, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 128 + 15),
                             (signal.SIGHUP, 128 + 1)):
            os.mkdir(self.path("d"))
            with self.start("put", "-", "d/x", stdin=subprocess.PIPE) as child:
                child.stdin.write(bytes(32 << 20)) # more than is kept before parts are written
                child.stdin.flush()
                wait_for(lambda: os.listdir(self.path("d")), "the temporary file")
                self.assert_ends(child, number, code)
            self.assertEqual(os.listdir(self.path("d")), [])
            os.rmdir(self.path("d"))

    def test_put_under_way_ends_and_keeps_the_old_object(self):
        self.write("d/x", b"old")
        with self.start("put", "/dev/zero", "d/x") as child:
            wait_for(lambda: len(os.listdir(self.path("d"))) > 1, "the temporary file")
            self.assert_ends(child, signal.SIGINT, INTERRUPTED)
        self.assertEqual((os.listdir(self.path("d")), self.read("d/x")), (["x"], b"old"))

    def test_get_that_waits_for_its_reader_ends(self):
        with open(self.path("big"), "wb") as f:
            f.truncate(1 << 30)
        with self.start("get", "big", stdout=subprocess.PIPE) as child:
            child.stdout.read(1 << 20)
            self.assert_ends(child, signal.SIGINT, INTERRUPTED)

    def test_get_into_a_fifo_that_nobody_reads_ends(self):
        self.write("a", bytes(1 << 20))
        os.mkfifo(self.path("fifo"))
        with self.start("get", "a", "fifo") as child:
            wait_for(lambda: has_mapped(child.pid, b"file.so"), "the plugin")
            self.assert_ends(child, signal.SIGINT, INTERRUPTED)

    def test_ls_whose_output_stands_still_ends(self):
        for i in range(800):
            self.write(f"d/{i:0200d}", b"")
        with self.start("ls", "d", stdout=subprocess.PIPE) as child:
            child.stdout.read(1)
            self.assert_ends(child, signal.SIGINT, INTERRUPTED)

    def test_ignored_signal_stays_ignored(self):
        with self.start("put", "-", "x", stdin=subprocess.PIPE,
                        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as child:
            child.stdin.write(bytes(32 << 20))
            child.send_signal(signal.SIGHUP)
            child.stdin.close()
            self.assertEqual(child.wait(timeout=20), OK)
        self.assertEqual(self.read("x"), bytes(32 << 20))


class Pipes(Case):
    def test_reader_that_goes_away_is_success(self):
        for i in range(800):
            self.write(f"d/{i:0200d}", b"x")
        with open(self.path("big"), "wb") as f:
            f.truncate(64 << 20)
        for args in (("ls", "d"), ("ls", "--json", "d"), ("get", "big"), ("cat", "big", "big"),
                     ("rm", "-rn", "d")):
            with subprocess.Popen([PENSTOCK, *args], cwd=self.top, env=self.env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
                child.stdout.read(1)
                child.stdout.close()
                self.assertEqual((child.wait(timeout=20), child.stderr.read()), (OK, b""), args)

    def test_fifo_reader_that_goes_away_is_no_crash(self):
        os.mkfifo(self.path("fifo"))
        with open(self.path("big"), "wb") as f:
            f.truncate(64 << 20)

        def read_a_little():
            with open(self.path("fifo"), "rb") as f:
                f.read(10)

        reader = threading.Thread(target=read_a_little)
        reader.start()
        self.run_ok("get", "big", "fifo")
        reader.join()


class Terminal(Case):
    def on_terminal(self, *args, stdin=None, stdout=subprocess.DEVNULL):
        """Run with stderr on a terminal; returns exit code and what it showed."""
        leader, follower = pty.openpty()
        env = {**self.env, "TERM": "xterm"}
        with subprocess.Popen([PENSTOCK, *args], cwd=self.top, env=env, stderr=follower,
                              stdin=stdin or subprocess.DEVNULL, stdout=stdout) as child:
            os.close(follower)
            shown = b""
            try:
                while piece := os.read(leader, 4096):
                    shown += piece
            except OSError: # the kernel's way of saying that the other side is closed
                pass
            os.close(leader)
        return child.returncode, shown

    def feed_slowly(self, fd):
        for _ in range(8):
            os.write(fd, bytes(32 << 10))
            time.sleep(0.06) # the progress line comes every 200 ms of real time
        os.close(fd)

    def test_progress_shows_on_a_terminal_and_is_wiped_at_the_end(self):
        read_fd, write_fd = os.pipe()
        feeder = threading.Thread(target=self.feed_slowly, args=(write_fd,))
        feeder.start()
        code, shown = self.on_terminal("put", "-", "x", stdin=read_fd)
        os.close(read_fd)
        feeder.join()
        self.assertEqual(code, OK)
        self.assertRegex(shown, rb"\rput  [0-9.]+ KiB  [0-9.]+ KiB/s\x1b\[K")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-40:])

    def test_quiet_shows_no_progress(self):
        read_fd, write_fd = os.pipe()
        feeder = threading.Thread(target=self.feed_slowly, args=(write_fd,))
        feeder.start()
        self.assertEqual(self.on_terminal("-q", "put", "-", "x", stdin=read_fd), (OK, b""))
        os.close(read_fd)
        feeder.join()

    def test_keys_with_control_characters_are_quoted_for_the_shell_on_a_terminal(self):
        name = b"a\n\x1b[31m'\\b"
        self.write(b"d/" + name)
        leader, follower = pty.openpty()
        self.assertEqual(self.run_terminal_output(leader, follower, "ls", "d"), OK)
        shown = os.read(leader, 4096).strip()
        os.close(leader)
        self.assertEqual(shown, b"$'" + self.uri("d/").encode() + rb"a\n\033[31m\'\\b'")
        pasted = subprocess.run(["bash", "-c", b"printf %s " + shown], capture_output=True,
                                check=True).stdout
        self.assertEqual(pasted, self.uri("d/").encode() + name)

    def run_terminal_output(self, leader, follower, *args):
        del leader
        code = subprocess.run([PENSTOCK, *args], cwd=self.top, env=self.env, stdout=follower,
                              check=False).returncode
        os.close(follower)
        return code


class Deadlines(Case):
    def test_timeout_is_exit_5(self):
        self.write("a", bytes(1 << 20))
        self.assert_fails(USAGE, "is below 1", "get", "--timeout=0s", "a")
        with open(self.path("big"), "wb") as f:
            f.truncate(8 << 30)
        result = self.run_raw("get", "--timeout=20ms", "big", "copy")
        self.assertEqual(result.returncode, UNAVAILABLE, result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1)
        self.assertEqual(sorted(os.listdir(self.top)), ["a", "big"])


if __name__ == "__main__":
    main()

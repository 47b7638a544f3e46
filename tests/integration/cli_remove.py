"""rm: exactly what was named, and many only when that was meant."""
import os
import pty
import subprocess

from cli_support import NOT_FOUND, OK, PENSTOCK, SOME_FAILED, USAGE, Case, main


class Removing(Case):
    def tree(self):
        for name in ("dir/a.txt", "dir/sub/b.txt", "dir/sub/c", "dirfoo", "dir-x/y", "foo", "foobar"):
            self.write(name, b"12345")
        os.mkdir(self.path("dir/empty"))

    def names(self):
        found = []
        for directory, names, files in os.walk(self.top):
            found += [os.path.relpath(os.path.join(directory, name), self.top)
                      for name in names + files]
        return sorted(found)

    def test_one_key_is_deleted_exactly(self):
        self.tree()
        self.assertEqual(self.run_ok("rm", self.uri("foo")), b"")
        self.assertEqual(set(self.names()) & {"foo", "foobar"}, {"foobar"})
        self.run_ok("rm", "foobar", "dirfoo")
        self.assertNotIn("dirfoo", self.names())

    def test_a_missing_key_is_exit_3_unless_forced(self):
        self.tree()
        self.assert_fails(NOT_FOUND, "nope: not found", "rm", "nope")
        self.assert_fails(NOT_FOUND, "not found", "rm", "-r", "--yes", "nope")
        self.run_ok("rm", "-f", "nope")
        self.run_ok("rm", "-rf", "--yes", "nope/")

    def test_a_directory_needs_recursive(self):
        self.tree()
        self.assert_fails(USAGE, "is a directory, -r deletes", "rm", "dir")
        self.assert_fails(USAGE, "is a directory, -r deletes", "rm", "dir/")

    def test_many_need_yes_without_a_terminal(self):
        self.tree()
        self.assert_fails(USAGE, "needs --yes", "rm", "-r", "dir")
        self.assert_fails(USAGE, "needs --yes", "rm", "--regex", "a", "dir")

    def test_recursive_takes_the_directory_and_no_neighbour(self):
        for form in ("dir", "dir/"):
            self.tree()
            self.run_ok("rm", "-r", "--yes", form)
            self.assertEqual(self.names(), ["dir-x", "dir-x/y", "dirfoo", "foo", "foobar"])

    def test_regex_chooses_below_the_base_and_keeps_directories(self):
        self.tree()
        self.run_ok("rm", "-r", "--yes", "--regex", r"\.txt$", "dir")
        self.assertEqual([n for n in self.names() if n.startswith("dir/")],
                         ["dir/empty", "dir/sub", "dir/sub/c"])

    def test_regex_without_recursive_stays_on_one_level(self):
        self.tree()
        self.run_ok("rm", "--yes", "--regex", "txt|foo", "dir")
        self.assertEqual([n for n in self.names() if n.startswith("dir/")],
                         ["dir/empty", "dir/sub", "dir/sub/b.txt", "dir/sub/c"])

    def test_dry_run_prints_and_deletes_nothing(self):
        self.tree()
        before = self.names()
        self.assertEqual(sorted(self.run_ok("rm", "-rn", "dir").decode().split()),
                         [self.uri("dir/a.txt"), self.uri("dir/sub/b.txt"), self.uri("dir/sub/c")])
        self.assertEqual(self.run_ok("rm", "-n", "foo"), self.uri("foo\n").encode())
        self.assertEqual(self.names(), before)

    def test_a_whole_store_needs_saying_so(self):
        self.tree()
        root = f"--option=root={self.top}"
        self.assert_fails(USAGE, "--whole-store", "rm", "-r", "--yes", root, "file:///")
        self.run_ok("rm", "-r", "--yes", "--whole-store", root, "file:///")
        self.assertEqual(self.names(), [])

    def test_ten_thousand_objects_in_parallel_batches(self):
        os.mkdir(self.path("many"))
        for i in range(10_000):
            with open(self.path("many", f"{i:05d}"), "wb"):
                pass
        self.run_ok("rm", "-r", "--yes", "-j", "8", "many")
        self.assertEqual(self.names(), [])

    def test_what_cannot_be_deleted_is_named_and_the_rest_goes(self):
        self.tree()
        result = self.run_raw("rm", "foo", "nope", "foobar")
        self.assertEqual((result.returncode, result.stderr),
                         (SOME_FAILED, b"penstock: rm: nope: not found\n"))
        self.assertEqual(set(self.names()) & {"foo", "foobar"}, set())

    def ask(self, answer):
        """rm -r dir on a terminal of its own; returns exit code and what the terminal showed."""
        leader, follower = pty.openpty()
        with subprocess.Popen([PENSTOCK, "rm", "-r", "dir"], stdin=follower, stderr=follower,
                              cwd=self.top, env=self.env) as child:
            os.close(follower)
            shown = b""
            while b"[y/N] " not in shown:
                shown += os.read(leader, 1000)
            os.write(leader, answer)
            code = child.wait(timeout=20)
        os.close(leader)
        return code, shown

    def test_a_terminal_is_asked_and_may_say_no(self):
        self.tree()
        before = self.names()
        for answer in (b"\n", b"n\n", b"yesterday\n", b"\x04"):
            code, shown = self.ask(answer)
            self.assertIn(b"delete 3 objects, 15 B, below " + self.uri("dir").encode(), shown)
            self.assertEqual((code, self.names()), (SOME_FAILED, before), answer)

    def test_a_terminal_is_asked_and_may_say_yes(self):
        for answer in (b"y\n", b"YES\n"):
            self.tree()
            code, _ = self.ask(answer)
            self.assertEqual(code, OK)
            self.assertNotIn("dir", self.names())


if __name__ == "__main__":
    main()

"""Command line mistakes, help, manual page and completions of the command."""
import json
import re
import subprocess

from cli_support import PENSTOCK, USAGE, Case, main


class Mistakes(Case):
    def test_no_command_is_one_line_and_exit_2(self):
        self.assert_fails(USAGE, "no command given")

    def test_unknown_command_offers_the_closest(self):
        self.assert_fails(USAGE, "did you mean 'ls'?", "lss")
        self.assert_fails(USAGE, "did you mean 'download'?", "donwload")

    def test_half_a_command_names_the_other_half(self):
        self.assert_fails(USAGE, "needs one of: list, show, manifest, new", "plugins")
        self.assert_fails(USAGE, "known are: list, show, manifest, new", "plugins", "remove")

    def test_unknown_option_offers_the_closest_and_reads_nothing(self):
        self.write("a")
        self.assert_fails(USAGE, ["unknown option '--recusive'", "did you mean '--recursive'?"],
                          "rm", "--recusive", "a")
        self.assert_fails(USAGE, "unknown option '-x'", "rm", "-x", "a")

    def test_options_are_never_abbreviated(self):
        self.assert_fails(USAGE, "did you mean '--recursive'?", "ls", "--rec", ".")

    def test_flag_takes_no_value_and_others_need_one(self):
        self.assert_fails(USAGE, "--json takes no value", "ls", "--json=1", ".")
        self.assert_fails(USAGE, "--regex needs a value: REGEX", "ls", ".", "--regex")
        self.assert_fails(USAGE, "-p needs a value: REGEX", "ls", ".", "-p")

    def test_numbers_are_checked_against_their_range_and_unit(self):
        self.assert_fails(USAGE, "'0' is not between 1 and 64", "rm", "-j", "0", "a")
        self.assert_fails(USAGE, "'-5' is not a size", "get", "--length", "-5", "a")
        self.assert_fails(USAGE, "'8x' is not a size", "ls", "--memory=8x", ".")
        self.assert_fails(USAGE, "'8' is not a duration with its unit", "ls", "--timeout=8", ".")
        self.assert_fails(USAGE, "not a number below 2^64", "get", "--offset", "99999999999t", "a")

    def test_wrong_number_of_operands_names_what_is_needed(self):
        self.assert_fails(USAGE, "needs URI [FILE]", "get")
        self.assert_fails(USAGE, "takes URI [FILE], but got 'c' too", "get", "a", "b", "c")
        self.assert_fails(USAGE, "takes no operands, but got 'x'", "version", "x")

    def test_pairs_need_a_name(self):
        self.assert_fails(USAGE, "'foo' is not NAME=VALUE", "put", "--meta", "foo", "-", "x")

    def test_regex_that_does_not_compile_says_where(self):
        self.assert_fails(USAGE, ["--regex '(a'", "at byte 2"], "ls", "--regex", "(a", ".")

    def test_standard_streams_only_where_they_make_sense(self):
        self.assert_fails(USAGE, "'-' (standard input or output) is not possible", "ls", "-")

    def test_control_characters_in_messages_are_escaped(self):
        self.assert_fails(3, "a\\nb\\x1b[31m", "stat", "a\nb\x1b[31m")


class Parsing(Case):
    def test_forms_of_options_mean_the_same(self):
        self.write("d/a.txt", b"12345")
        self.write("d/b", b"1")
        want = self.run_ok("ls", "-r", "-p", "txt", "d")
        for form in (["-rp", "txt", "d"], ["-rptxt", "d"], ["d", "--regex=txt", "-r"],
                     ["--recursive", "--regex", "txt", "--", "d"]):
            self.assertEqual(self.run_ok("ls", *form), want, form)

    def test_double_dash_ends_the_options(self):
        self.write("-r", b"x")
        self.assertEqual(self.run_ok("cat", "--", "-r"), b"x")

    def test_global_options_stand_before_or_after_the_command(self):
        self.write("a", b"x")
        self.assertEqual(self.run_ok("--memory", "64MiB", "cat", "a"), b"x")
        self.assertEqual(self.run_ok("cat", "a", "--memory=64MiB"), b"x")

    def test_sizes_take_decimal_and_binary_units(self):
        self.write("a", bytes(5000))
        for text, n in (("4ki", 4096), ("4k", 4000), ("4KiB", 4096), ("4kB", 4000), ("7", 7)):
            self.assertEqual(len(self.run_ok("get", "a", "--length", text)), n, text)


class Texts(Case):
    def verbs(self):
        text = self.run_ok("help").decode()
        return re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", text.split("Options of")[0], re.M)

    def test_a_group_of_commands_has_help(self):
        for group in ("bench", "plugins"):
            text = self.run_ok("help", group)
            self.assertIn(b"  %s list " % group.encode(), text)
            self.assertNotIn(b"  cp ", text)
            self.assertEqual(self.run_ok(group, "--help"), text)

    def test_every_command_has_help_by_three_ways(self):
        verbs = self.verbs()
        self.assertIn("ls", verbs)
        self.assertIn("plugins list", verbs)
        for verb in verbs:
            words = verb.split()
            text = self.run_ok("help", *words)
            self.assertTrue(text.startswith(b"Usage: penstock " + verb.encode()), verb)
            self.assertEqual(self.run_ok(*words, "--help"), text)
            self.assertLessEqual(max(len(line) for line in text.split(b"\n")), 88, verb)

    def test_version_names_command_library_and_abi(self):
        text = self.run_ok("version")
        self.assertRegex(text, rb"^penstock \S+ \(libpenstock \S+, plugin ABI \d+\.\d+\)\n$")
        self.assertEqual(self.run_ok("--version"), text)
        facts = json.loads(self.run_ok("version", "--json"))
        self.assertEqual(sorted(facts), ["abi", "library", "library_version", "version"])

    def test_manual_page_is_clean_and_names_every_option(self):
        page = self.run_ok("__man")
        result = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page,
                                capture_output=True, check=True)
        self.assertEqual(result.stderr, b"")
        for verb in self.verbs():
            self.assertIn(b"\n.SS " + verb.encode(), page)
        for name in re.findall(rb"--([a-z-]+)", self.run_ok("help", "rm")):
            self.assertIn(b"\\-\\-" + name.replace(b"-", b"\\-"), page)

    def complete(self, *words):
        """What bash offers for the last of `words`."""
        script = self.run_ok("__complete", "bash").decode()
        quoted = " ".join(f"'{w}'" for w in words)
        script += f"\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        script += '_penstock; printf "%s\\n" "${COMPREPLY[@]}"\n'
        env = {**self.env, "PATH": PENSTOCK.rsplit("/", 1)[0] + ":" + self.env["PATH"]}
        return subprocess.run(["bash", "-u"], input=script.encode(), capture_output=True, env=env,
                              check=True).stdout.decode().split()

    def test_bash_completes_commands_options_and_plugins(self):
        self.assertEqual(self.complete("penstock", "pl"), ["plugins"])
        self.assertEqual(self.complete("penstock", "plugins", "li"), ["list"])
        self.assertEqual(self.complete("penstock", "ls", "--rec"), ["--recursive"])
        self.assertEqual(self.complete("penstock", "plugins", "list", "--w"), ["--why"])
        self.assertEqual(self.complete("penstock", "--memory", "1g", "presi"), ["presign"])
        self.assertEqual(self.complete("penstock", "plugins", "show", "fi"), ["file"])

    def test_other_shells_get_every_command_and_option(self):
        for shell in ("zsh", "fish"):
            text = self.run_ok("__complete", shell).decode()
            for word in ("plugins", "recursive", "whole-store", "plugin-dir"):
                self.assertIn(word, text, shell)
        self.assert_fails(USAGE, "is none of: bash, zsh, fish", "__complete", "csh")


if __name__ == "__main__":
    main()

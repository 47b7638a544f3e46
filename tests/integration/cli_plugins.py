"""plugins, config: what is found, what is refused and why; bad plugins are one line and exit 2."""
import json
import os
import shutil
import subprocess

from cli_support import CONFLICT, NOT_FOUND, OK, PLUGINS, SOURCE, USAGE, Case, main


class Found(Case):
    def test_list_shows_what_can_be_used(self):
        lines = self.run_ok("plugins", "list").decode().splitlines()
        self.assertEqual(lines[0].split(), ["PLUGIN", "VERSION", "STATE", "SCHEMES", "LIBRARY"])
        row = next(line.split() for line in lines if line.startswith("file "))
        self.assertEqual((row[2], row[3]), ("found", "file"))
        facts = [json.loads(line) for line in self.run_ok("plugins", "list", "--json").splitlines()]
        self.assertIn("file", [fact["id"] for fact in facts])

    def test_show_names_capabilities_options_and_variables(self):
        text = self.run_ok("plugins", "show", "file").decode()
        self.assertRegex(text, r"(?m)^Capabilities : read .*list-ordered")
        self.assertRegex(text, r"(?m)^  root \(path\), default /\n      \S")
        self.assert_fails(NOT_FOUND, "no plugin has that name", "plugins", "show", "nope")

    def test_manifest_is_what_the_build_wrote(self):
        with open(os.path.join(PLUGINS, "file.json"), "rb") as f:
            want = f.read()
        library = os.path.join(PLUGINS, "file.so")
        self.assertEqual(self.run_ok("plugins", "manifest", library), want)
        self.run_ok("plugins", "manifest", library, "-o", "out.json")
        self.assertEqual((self.read("out.json"), os.listdir(self.top)), (want, ["out.json"]))

    def test_config_shows_each_value_and_its_source(self):
        def show(*args, **env):
            rows = self.run_ok("config", "show", "file", "--json", *args, env=env).splitlines()
            return {row["option"]: (row["value"], row["source"], row["detail"])
                    for row in map(json.loads, rows)}
        self.assertEqual(show()["root"], ("/", "default", ""))
        self.write("c.json", b'{"file": {"root": "/srv"}}')
        config = self.path("c.json")
        self.assertEqual(show("--config", config)["root"], ("/srv", "file", config))
        self.assertEqual(show(PENSTOCK_CONFIG=config)["root"], ("/srv", "file", config))
        self.assertIn(b"file.root = /  (default)\n", self.run_ok("config", "show"))
        self.assert_fails(NOT_FOUND, "nope", "config", "show", "nope")

    def test_options_reach_the_store_they_name(self):
        self.write("sub/a", b"x")
        for option in (f"root={self.top}", f"file.root={self.top}"):
            self.assertEqual(self.run_ok("ls", "-o", option, "file:///sub/"), b"file:///sub/a\n")
        self.assert_fails(USAGE, "no option 'rot'", "ls", "-o", "rot=/", "file:///")
        self.assert_fails(USAGE, "no plugin has that name", "ls", "-o", "s4.root=/", "file:///")


class Refused(Case):
    """A folder with a bad copy of the file plugin, used before the good one."""

    def setUp(self):
        super().setUp()
        self.write("a", b"x")
        os.mkdir(self.path("p"))
        for name in ("file.so", "file.json"):
            shutil.copy(os.path.join(PLUGINS, name), self.path("p"))

    def edit_manifest(self, **members):
        with open(self.path("p/file.json"), encoding="utf-8") as f:
            manifest = json.load(f)
        manifest.update(members)
        self.write("p/file.json", json.dumps(manifest).encode())

    def why(self, *args):
        return self.run_ok("plugins", "list", "--why", "--plugin-dir", "p", *args).decode()

    def test_unknown_scheme_names_those_known_and_what_was_skipped(self):
        self.edit_manifest(id="acme", schemes=["acme"], abi="3.0")
        text = self.assert_fails(USAGE, ["'foo'", "file"], "ls", "foo://x/", "--plugin-dir", "p")
        self.assertIn("p/file.json", text)
        self.assertIn("ABI 3.0", text)

    def test_a_manifest_that_lies_is_refused_when_it_is_used(self):
        self.edit_manifest(version="7.7.7")
        self.assert_fails(USAGE, ["7.7.7", "manifest"], "get", "a", "b", "--plugin-dir", "p")

    def test_a_manifest_that_is_no_manifest_is_skipped_with_its_reason(self):
        self.write("p/file.json", b"{")
        self.assertEqual(self.run_ok("cat", "a", "--plugin-dir", "p"), b"x")
        self.assertRegex(self.why(), r"skipped +- +\S+/p/file.json\n    \S")
        result = self.run_raw("plugins", "list", "--plugin-dir", "p")
        self.assertIn(b"1 more cannot be used", result.stderr)

    def test_a_plugin_of_another_abi_major_is_skipped_with_its_reason(self):
        self.edit_manifest(abi="3.0")
        self.assertIn("ABI 3.0 has the wrong major", self.why())

    def test_a_library_of_another_abi_major_is_refused(self):
        """The manifest is right and the library is not: compiled with other numbers."""
        self.write("bad.c", b"""
            #include <penstock/plugin.h>
            static const pst_plugin bad = {.struct_size = sizeof(bad), .abi_major = 7, .id = "file"};
            PST_PLUGIN_ENTRY(host, plugin, err) { (void)host; (void)err; *plugin = &bad; return 0; }
            """)
        subprocess.run(["cc", "-shared", "-fPIC", "-I" + SOURCE + "/sdk/include", "-o",
                        self.path("p/file.so"), self.path("bad.c")], check=True)
        self.assert_fails(USAGE, "ABI 7.", "get", "a", "b", "--plugin-dir", "p")
        self.assert_fails(USAGE, "ABI 7.", "plugins", "manifest", "p/file.so")

    def test_a_truncated_library_is_refused(self):
        size = os.stat(self.path("p/file.so")).st_size
        for n in (0, 100, size // 50, size // 3, size - 1):
            shutil.copy(os.path.join(PLUGINS, "file.so"), self.path("p"))
            os.truncate(self.path("p/file.so"), n)
            self.assert_fails(USAGE, "p/file.so", "get", "a", "b", "--plugin-dir", "p")

    def test_a_directory_that_others_may_write_is_refused_in_strict_mode(self):
        os.chmod(self.path("p"), 0o777)
        self.assertIn("found", self.why())
        self.assertRegex(self.why("--strict"), r"skipped .*\n +strict mode: \S+/p is writable by oth")
        os.chmod(self.path("p"), 0o755)
        os.chmod(self.path("p/file.so"), 0o666)
        self.assertIn("strict mode", self.why("--strict"))
        self.edit_manifest(id="tape", schemes=["tape"])
        self.assert_fails(USAGE, ["tape", "p/file", "strict mode"], "ls", "tape://x/", "--strict",
                          "--plugin-dir", "p")

    def test_manifest_of_what_is_no_plugin_is_refused(self):
        self.assert_fails(USAGE, "a", "plugins", "manifest", "a")
        self.assert_fails(USAGE, "nope", "plugins", "manifest", "nope.so")


class New(Case):
    def test_new_makes_a_folder_and_never_overwrites(self):
        out = self.run_ok("plugins", "new", "tape").decode()
        self.assertIn("tape://", out)
        self.assertEqual(sorted(os.listdir(self.path("tape"))),
                         ["CMakeLists.txt", "README.md", "tape.c", "test"])
        for name in os.listdir(self.path("tape")):
            self.assertNotIn(b"acme", self.read("tape/" + name).lower(), name)
        self.assertTrue(os.access(self.path("tape/test"), os.X_OK))
        self.assert_fails(CONFLICT, "not empty", "plugins", "new", "tape")
        os.mkdir(self.path("elsewhere"))
        self.run_ok("plugins", "new", "tape", "--dir", "elsewhere")
        self.assert_fails(NOT_FOUND, "no/such", "plugins", "new", "tape", "--dir", "no/such")

    def test_new_refuses_names_that_are_no_identifiers(self):
        for name in ("Tape", "9p", "a-b", "a/b", "", "x" * 33, "..", "a b"):
            self.assert_fails(USAGE, "is no name for a plugin", "plugins", "new", name)

    def build(self):
        self.run_ok("plugins", "new", "tape")
        os.mkdir(self.path("p"))
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared",
                        "-fPIC", "-fvisibility=hidden", "-I" + SOURCE + "/sdk/include",
                        "-Wl,--version-script=" + SOURCE + "/cmake/plugin.map", "-Wl,-z,defs", "-o",
                        self.path("p/tape.so"), self.path("tape/tape.c")], check=True)
        self.run_ok("plugins", "manifest", "p/tape.so", "-o", "p/tape.json")
        self.env.update(TAPE_ROOT=self.path("root"), PENSTOCK_PLUGIN_PATH=self.path("p"))
        os.mkdir(self.path("root"))

    def test_new_plugin_works_with_the_command(self):
        self.build()
        data = os.urandom(20_000_000)
        for key in ("a-b", "a/x", "a0", "big", "50%", "sp ace"):
            self.run_ok("put", "-", "tape://t/" + key, stdin=data if key == "big" else b"x")
        self.assertEqual(self.run_ok("cat", "tape://t/big"), data)
        self.assertEqual(self.run_ok("ls", "tape://t/").decode().splitlines(),
                         ["tape://t/" + k for k in ("50%", "a-b", "a/", "a0", "big", "sp ace")])
        self.run_ok("rm", "-r", "--yes", "tape://t/a")
        self.assertEqual(self.run_ok("ls", "-rc", "tape://t/"), b"5\n")
        self.assertEqual(self.run_raw("put", "--create-only", "-", "tape://t/a0").returncode, CONFLICT)

    def test_new_plugin_passes_the_conformance_kit(self):
        """The quick groups; CI runs all of them on the installed package."""
        self.build()
        groups = [f"--only=PST-{group}" for group in ("LOAD", "MEM", "READ", "WRITE")]
        result = self.run_raw("conformance", self.path("p/tape.so"), "--uri", "tape://kit/",
                              "--profile", "full", *groups)
        lines = result.stdout.decode().splitlines()
        failed = [line for line in lines if line.startswith("not ok")]
        self.assertEqual((result.returncode, failed), (OK, []), result.stderr.decode())
        passed = [line for line in lines if line.startswith("ok ") and "# SKIP" not in line]
        self.assertGreater(len(passed), 70)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The C of docs/plugin-guide.md is a plugin: it compiles without a warning and passes the kit.

    guide_plugin.py SOURCE_DIR BIN_DIR COMPILER
"""
import os
import re
import subprocess
import sys
import tempfile

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion",
         "-Wstrict-prototypes", "-Werror", "-Wno-unused-function",  # sections 4 and 10 only show
         "-O1", "-g", "-fPIC", "-shared", "-fvisibility=hidden"]


def run(*command, output=None):
    result = subprocess.run(command, stdout=output or subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"guide_plugin: {' '.join(command)} failed:\n{result.stdout or ''}")
    return result.stdout


def main():
    source, bin_dir, compiler = sys.argv[1:4]
    with open(f"{source}/docs/plugin-guide.md", encoding="utf-8") as f:
        blocks = re.findall(r"^```c\n(.*?)^```", f.read(), re.S | re.M)
    if len(blocks) < 12:
        sys.exit(f"guide_plugin: only {len(blocks)} snippets found")
    with tempfile.TemporaryDirectory() as temp:
        path = os.path.join(temp, "shelf.c")
        plugin = os.path.join(temp, "shelf.so")
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(blocks))
        run(compiler, *FLAGS, f"-I{source}/sdk/include",
            f"-Wl,--version-script={source}/cmake/plugin.map", "-Wl,-z,defs", "-o", plugin, path)
        penstock = os.path.join(bin_dir, "penstock")
        with open(os.path.join(temp, "shelf.json"), "w", encoding="utf-8") as f:
            run(penstock, "plugins", "manifest", plugin, output=f)
        text = run(penstock, "--plugin-dir", temp, "cat", "shelf://any/greeting.txt")
        if text != "Hello from the shelf\n":
            sys.exit(f"guide_plugin: read {text!r}")
        run(penstock, "conformance", plugin, "--uri", "shelf://any/", "--profile", "ro")
    print(f"guide_plugin: {len(blocks)} snippets are a plugin that passes the kit")


if __name__ == "__main__":
    main()

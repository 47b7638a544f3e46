#!/usr/bin/env python3
"""listed.py [ROOT]: no file is forgotten. Every C file, public header and test stands in a build
list, so that one which is compiled nowhere cannot look tested.

Looked for by name in the CMakeLists.txt of its folder or of one above it.
"""
import os
import re
import sys

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
TOPS = ("sdk", "plugins", "cli", "bindings", "tests", "bench", "examples")
# Built by scripts from copies or against the installed package.
OUTSIDE = ("tests/install/", "tests/mutants/")


def lists_above(path):
    folder = os.path.dirname(path)
    while True:
        candidate = os.path.join(ROOT, folder, "CMakeLists.txt")
        if os.path.isfile(candidate):
            with open(candidate, encoding="utf-8") as f:
                yield folder, f.read()
        if not folder:
            return
        folder = os.path.dirname(folder)


def is_listed(path):
    for folder, text in lists_above(path):
        relative = os.path.relpath(path, folder or ".")
        stem = os.path.splitext(os.path.basename(path))[0]
        for word in (relative, os.path.basename(path), stem):
            if re.search(rf"(?<![\w./-]){re.escape(word)}(?![\w.-])", re.sub(r"#.*", "", text)):
                return True
    return False


def main():
    n = 0
    faults = []
    for top in TOPS:
        for directory, folders, names in os.walk(os.path.join(ROOT, top)):
            folders[:] = sorted(d for d in folders if d not in ("build", "target"))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(directory, name), ROOT)
                is_public = path.startswith("sdk/include/penstock/")
                if not (is_public or name.endswith((".c", ".cc", ".cpp"))):
                    continue
                if path.startswith(OUTSIDE):
                    continue
                n += 1
                if not is_listed(path):
                    faults.append(f"{path}: in no CMakeLists.txt")
    for fault in faults:
        print(fault)
    print(f"{n} files, {len(faults)} not listed")
    if n == 0:
        sys.exit("listed: nothing to check")
    sys.exit(1 if faults else 0)


main()

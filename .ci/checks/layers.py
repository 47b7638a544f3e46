#!/usr/bin/env python3
"""layers.py [ROOT]: who may include what.

    util < core < codec < io < data   a folder of sdk/src sees itself and those before it, and public headers
    sdk/src/net               sees util only: it links nothing of the core
    plugins/*                 <penstock/plugin.h>, <penstock/sync.h>, system headers, their own folder;
                              directio also plugins/file, the tree of files that both are made of
    cli, bindings, examples, bench   public headers, their own folder
    sdk/include               public headers and the two headers a freestanding compiler brings
    tests                     may see everything

Included files are looked for in the folder of the file and in sdk/src, as the compiler does; one
that is in neither, though written in quotes, is an error as well.
"""
import os
import re
import sys

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
LAYERS = {"util": {"util"}, "core": {"util", "core"}, "codec": {"util", "core", "codec"},
          "io": {"util", "core", "codec", "io"},
          "data": {"util", "core", "codec", "io", "data"}, "net": {"util", "net"}}
SHARED_FOLDERS = {"directio": ["file"]}
PLUGIN_HEADERS = {"penstock/plugin.h", "penstock/sync.h", "penstock/services.h"}
# What plugin.h builds on; a plugin gets them through it.
VENDOR_PUBLIC = PLUGIN_HEADERS | {"penstock/base.h", "penstock/status.h"}


def source_files():
    for top in ("sdk", "plugins", "cli", "bindings", "examples", "bench"):
        for directory, folders, names in os.walk(os.path.join(ROOT, top)):
            folders[:] = sorted(d for d in folders if d not in ("build", "target"))
            for name in sorted(names):
                if name.endswith((".c", ".h", ".cc", ".cpp", ".hpp")):
                    yield os.path.relpath(os.path.join(directory, name), ROOT)


def allowed_roots(path):
    """Folders whose files this one may include, and whether all public headers are open to it."""
    parts = path.split(os.sep)
    if path.startswith("sdk/include/"):
        return [], True
    if path.startswith("sdk/src/"):
        if parts[2] not in LAYERS:
            return None, True
        return [f"sdk/src/{layer}" for layer in sorted(LAYERS[parts[2]])], True
    if parts[0] == "plugins":
        return ["plugins/" + name for name in SHARED_FOLDERS.get(parts[1], []) + [parts[1]]], \
            "tests" in parts[2:-1]
    return [parts[0]], True


def resolve(path, name):
    for base in (os.path.dirname(path), "sdk/src"):
        candidate = os.path.normpath(os.path.join(base, name))
        if os.path.isfile(os.path.join(ROOT, candidate)):
            return candidate
    return None


def check(path):
    roots, all_public = allowed_roots(path)
    if roots is None:
        yield f"{path}: not in a layer ({', '.join(LAYERS)})"
        return
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), f.read(), flags=re.S)
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        kind, name = match[1], match[2]
        where = f"{path}:{line}: "
        if name.startswith("penstock/"):
            if kind != "<":
                yield where + f"write <{name}>"
            if not os.path.isfile(os.path.join(ROOT, "sdk/include", name)):
                yield where + f"<{name}> is no public header"
            elif not all_public and name not in VENDOR_PUBLIC:
                yield where + f"a plugin may not include <{name}>"
        elif kind == '"':
            target = resolve(path, name)
            if target is None:
                yield where + f'"{name}" is not in the tree'
            elif not any(target.startswith(root + "/") for root in roots):
                yield where + f"may not include {target}"
        elif path.startswith("sdk/include/") and name not in ("stddef.h", "stdint.h"):
            # sync.h is compiled into plugins on hosted systems and needs a little of libc.
            if os.path.basename(path) != "sync.h":
                yield where + f"a public header may not need <{name}>"


def main():
    files = list(source_files())
    faults = [fault for path in files for fault in check(path)]
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} forbidden includes")
    if not files:
        sys.exit("layers: nothing to check")
    sys.exit(1 if faults else 0)


main()

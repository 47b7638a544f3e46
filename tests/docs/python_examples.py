#!/usr/bin/env python3
"""The Python of a document runs: python_examples.py DOCUMENT PACKAGE_PARENT [--need=numpy,torch]

Blocks run in their order, in one process and in an empty directory. Those marked `no-run` are only
compiled. One that needs a package which is not installed is left out, and so is what builds on it;
with --need that is an error for the packages named.
"""
import os
import re
import sys
import tempfile
import traceback

OPTIONAL = {"numpy", "torch", "jax", "tensorflow", "fsspec", "pandas", "pyarrow", "dask", "uvloop"}


def read_blocks(path):
    """(line, code, is it run) of each block of Python."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for match in re.finditer(r"^```python([^\n]*)\n(.*?)^```$", text, re.S | re.M):
        line = text.count("\n", 0, match.start(2)) + 1
        yield line, match[2], "no-run" not in match[1]


def missing_names(code, left_out):
    """Packages that this block needs and that an earlier one could not import."""
    return {package for package, names in left_out.items()
            if any(re.search(rf"\b{name}\b", code) for name in names)}


def main():
    document, parent = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    need = {name for a in sys.argv[3:] if a.startswith("--need=") for name in a[7:].split(",")}
    sys.path.insert(0, parent)
    names, left_out = {"__name__": "__main__"}, {}
    n_run = 0
    with tempfile.TemporaryDirectory() as temp:
        os.chdir(temp)
        for line, code, is_run in read_blocks(document):
            program = compile("\n" * (line - 1) + code, document, "exec")
            if not is_run:
                continue
            if missing_names(code, left_out):
                continue
            try:
                exec(program, names)  # the examples are ours
                n_run += 1
            except ModuleNotFoundError as error:
                package = (error.name or "").partition(".")[0]
                if package not in OPTIONAL or package in need:
                    raise
                imported = re.findall(rf"^import {package}\S*(?: as (\w+))?", code, re.M)
                left_out[package] = {name or package for name in imported}
            except BaseException:
                traceback.print_exc()
                return f"python_examples: {document}:{line}: this block failed"
        os.chdir("/")
    without = ", ".join(sorted(left_out)) or "exception"
    print(f"python_examples: {n_run} blocks run, without {without}")
    return 0 if n_run >= 3 else "python_examples: that is too few"


if __name__ == "__main__":
    sys.exit(main())

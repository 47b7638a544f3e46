#!/usr/bin/env python3
"""What docs/abi.md says can be appended later, can be.

    deferred.py SOURCE_DIR

Takes every ```c append block of docs/abi.md, whose comments name the struct each member goes to the
end of, and makes a plugin.h that has them all. That header must pass the append-only check against
the committed baseline, hold no padding on 64-bit and 32-bit ABIs, and compile as C++11 too. Then, for
each struct, the same member is put before the last one instead, and the check must refuse it: else the
check would be worth nothing.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

TARGETS = ["gcc", "gcc -m32 -ffreestanding",
           "clang-14 --target=arm-linux-gnueabihf -ffreestanding"]


def read_appends(document):
    """[(struct, member text)] and the declarations that come before plugin.h's structs."""
    members, declarations = [], []
    for block in re.findall(r"```c append\n(.*?)```", document, re.S):
        where = None
        for line in block.splitlines():
            target = re.fullmatch(r"/\* (pst_\w+) \*/", line.strip())
            if target:
                where = target[1]
            elif line.strip() and where:
                members.append((where, line.strip()))
            elif line.strip():
                declarations.append(line)
    return members, "\n".join(declarations)


def struct_span(text, struct):
    """Where the body of a struct lies in a header, without its braces; None if it is not there."""
    start = re.search(rf"^(?:typedef )?struct {struct} \{{.*$", text, re.M)
    if not start:
        return None
    end = re.compile(r"^\}", re.M).search(text, start.end())
    return start.end(), end.start()


def last_member(text, start, end):
    """Where the last member of a struct begins: behind the last ';' but one that is no comment's."""
    body = re.sub(r"/\*.*?\*/", lambda m: " " * len(m[0]), text[start:end], flags=re.S)
    return start + body.rstrip().rstrip(";").rfind(";") + 1


class Headers:
    """The headers that define the ABI, as texts that can be changed and written."""

    def __init__(self, source, include):
        self.include = include
        shutil.copytree(f"{source}/sdk/include", include)
        self.texts = {}
        for name in ("base.h", "status.h", "plugin.h"):
            with open(f"{include}/penstock/{name}", encoding="utf-8") as f:
                self.texts[name] = f.read()

    def write(self, texts):
        for name, text in texts.items():
            with open(f"{self.include}/penstock/{name}", "w", encoding="utf-8") as f:
                f.write(text)

    def declare(self, declarations):
        texts = dict(self.texts)
        anchor = texts["plugin.h"].index("/* One attempt of one operation.")
        texts["plugin.h"] = (texts["plugin.h"][:anchor] + declarations + "\n" +
                             texts["plugin.h"][anchor:])
        return texts

    @staticmethod
    def add(texts, struct, member, is_append):
        for name, text in texts.items():
            span = struct_span(text, struct)
            if span:
                at = span[1] if is_append else last_member(text, *span)
                texts[name] = text[:at] + ("" if is_append else "\n") + f"    {member}\n" + text[at:]
                return
        sys.exit(f"deferred: no header defines struct {struct}")


def layout(source, include, *arguments):
    return subprocess.run(
        [sys.executable, f"{source}/tests/abi/layout.py", *arguments],
        env=dict(os.environ, PST_INCLUDE=include), capture_output=True, text=True, check=False)


def layout_check(source, include):
    return layout(source, include, "check", "services.h", f"{source}/tests/abi/plugin-1.0.json")


def compile_text(text, include, *command):
    return subprocess.run([*command, "-Werror", "-fsyntax-only", "-I", include, "-"], input=text,
                          capture_output=True, text=True, check=False)


def main():
    source = os.path.abspath(sys.argv[1])
    with open(f"{source}/docs/abi.md", encoding="utf-8") as f:
        members, declarations = read_appends(f.read())
    if len(members) < 10:
        sys.exit(f"deferred: docs/abi.md appends only {len(members)} members")

    with tempfile.TemporaryDirectory() as temp:
        headers = Headers(source, os.path.join(temp, "include"))
        include = headers.include
        texts = headers.declare(declarations)
        for struct, member in members:
            headers.add(texts, struct, member, is_append=True)
        headers.write(texts)
        result = layout_check(source, include)
        if result.returncode != 0:
            sys.exit(f"deferred: the appended header is refused:\n{result.stdout}{result.stderr}")
        probe = layout(source, include, "probe", "services.h").stdout
        for target in TARGETS:
            result = compile_text(probe, include, *target.split(), "-x", "c", "-std=c11", "-Wpadded")
            if result.returncode != 0 or "_Static_assert" not in probe:
                sys.exit(f"deferred: padding, or worse, with {target}:\n{result.stderr}")
        result = compile_text("#include <penstock/plugin.h>\n", include, "g++", "-x", "c++",
                              "-std=c++11")
        if result.returncode != 0:
            sys.exit(f"deferred: not C++11:\n{result.stderr}")

        structs = dict(members)
        for struct, member in structs.items():
            texts = headers.declare(declarations)
            headers.add(texts, struct, member, is_append=False)
            headers.write(texts)
            result = layout_check(source, include)
            if result.returncode == 0 or f"struct {struct}:" not in result.stdout:
                sys.exit(f"deferred: a member inserted into {struct} was not noticed:\n"
                         f"{result.stdout}{result.stderr}")
    print(f"deferred: {len(members)} members append to {len(structs)} structs; "
          f"{len(structs)} insertions refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The layout of every public struct and the value of every public constant, append-only.

    layout.py check services.h BASELINE   fail unless today's header only appends to BASELINE
    layout.py write services.h BASELINE   take today's header as the baseline (a deliberate break)
    layout.py probe services.h            print C that asserts what every ABI must agree on

A header stands for itself and all that it includes: services.h is the whole plugin ABI.

How: a tiny shared object that uses all structs is compiled with debug information and flattened by
abidw into one line per member, "offset-in-bits name type"; functions in tables are spelled out, so
a changed argument is a changed line. What may grow: a struct whose first member is struct_size, or
one that travels in arrays with a stride. Everything else is frozen. abidiff is of no use here: it
cannot tell an appended member from a break.

PST_INCLUDE names the include directory, sdk/include by default.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

INCLUDE = os.environ.get("PST_INCLUDE", "sdk/include")

# Elements of arrays that carry a stride, so they grow at their end without a struct_size.
STRIDED = {"pst_sum", "pst_entry", "pst_option"}
# These do have a struct_size, but are handed out as plain arrays: one may not outgrow the caller's.
FROZEN = {"pst_plugin_info", "pst_config_entry"}
# Numbers that change with every release.
VERSIONS = re.compile(r"PST_(ABI_(MAJOR|MINOR|MINOR_OLDEST)|VERSION_\w+)$")


def run(*command, text=None):
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"layout: {' '.join(command)} failed:\n{result.stderr}")
    return result.stdout


def struct_names(header):
    """Every struct that the header or what it includes defines, found in preprocessed text."""
    text = run("gcc", "-std=c11", "-E", "-P", "-I" + INCLUDE, f"{INCLUDE}/penstock/{header}")
    return sorted(set(re.findall(r"\bstruct (pst_\w+)\s*\{", text)))


def read_types(header, directory):
    """abidw's view of a shared object in which each struct is the argument of a function."""
    names = struct_names(header)
    source = os.path.join(directory, "probe.c")
    library = os.path.join(directory, "probe.so")
    with open(source, "w", encoding="utf-8") as f:
        f.write(f"#include <penstock/{header}>\n")
        for name in names:
            f.write(f"void use_{name}(struct {name} *p);\n")
            f.write(f"void use_{name}(struct {name} *p) {{ (void)p; }}\n")
        f.write("int use_PST_OK(void);\nint use_PST_OK(void) { return (int)PST_OK; }\n")
    run("gcc", "-std=c11", "-g", "-O0", "-shared", "-fPIC", "-I" + INCLUDE, "-o", library, source)
    return names, ElementTree.fromstring(
        run("abidw", "--no-comp-dir-path", "--no-corpus-path", library))


def spell(types, type_id, depth=0):
    """A type as text, down to names; functions with all their arguments."""
    element = types.get(type_id)
    if element is None or depth > 8:
        return "?"
    tag = element.tag
    if tag == "pointer-type-def":
        return spell(types, element.get("type-id"), depth + 1) + "*"
    if tag == "qualified-type-def":
        words = [w for w in ("const", "volatile", "restrict") if element.get(w) == "yes"]
        return " ".join(words + [spell(types, element.get("type-id"), depth + 1)])
    if tag == "array-type-def":
        length = element.find("subrange").get("length")
        return spell(types, element.get("type-id"), depth + 1) + f"[{length}]"
    if tag == "function-type":
        arguments = [spell(types, p.get("type-id"), depth + 1) if p.get("type-id") else "..."
                     for p in element.findall("parameter")]
        result = spell(types, element.find("return").get("type-id"), depth + 1)
        return f"fn({', '.join(arguments)}) -> {result}"
    return element.get("name", tag)


def read_structs(header, directory):
    names, root = read_types(header, directory)
    types = {e.get("id"): e for e in root.iter() if e.get("id")}
    structs = {}
    for element in root.iter("class-decl"):
        name = element.get("name", "")
        if not name.startswith("pst_") or element.get("is-declaration-only") == "yes":
            continue
        structs[name] = [
            "{} {} {}".format(m.get("layout-offset-in-bits"), m.find("var-decl").get("name"),
                              spell(types, m.find("var-decl").get("type-id")))
            for m in element.findall("data-member")]
    lost = [name for name in names if name not in structs]
    if lost:
        sys.exit(f"layout: abidw did not show {', '.join(lost)}")
    return dict(sorted(structs.items()))


def read_constants(header):
    """Object-like macros and enumerators with integer values, evaluated by the compiler."""
    path = f"{INCLUDE}/penstock/{header}"
    flags = ["-std=c11", "-I" + INCLUDE]
    names = set()
    for line in run("gcc", *flags, "-E", "-dM", path).splitlines():
        match = re.fullmatch(r"#define (PST_\w+) (.+)", line)
        if match and re.fullmatch(r"[-()\s0-9a-fA-FxXuUlL<|]+|U?INT(32|64)_M(AX|IN)|PST_[A-Z]\w*",
                                  match[2]):
            names.add(match[1])
    text = run("gcc", *flags, "-E", "-P", path)
    for body in re.findall(r"\benum\b[^{;]*\{([^}]*)\}", text):
        names.update(re.findall(r"\b(PST_\w+)\s*(?==|,|$)", body))
    names = sorted(n for n in names if not VERSIONS.match(n))
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "constants")
        body = "".join(f'    printf("{n} %lld\\n", (long long)({n}));\n' for n in names)
        run("gcc", *flags, "-x", "c", "-o", program, "-", text=(
            f"#include <penstock/{header}>\n#include <stdio.h>\n"
            f"int main(void)\n{{\n{body}    return 0;\n}}\n"))
        pairs = (line.split() for line in run(program).splitlines())
        return {name: int(value) for name, value in pairs}


def read_layout(header):
    with tempfile.TemporaryDirectory() as directory:
        return {"structs": read_structs(header, directory), "constants": read_constants(header)}


def may_grow(name, members):
    if name in FROZEN:
        return False
    return name in STRIDED or (bool(members) and members[0].split()[1] == "struct_size")


def compare(old, new):
    """What in `new` is more than an addition at the end of `old`."""
    breaks = []
    for name, members in old["structs"].items():
        now = new["structs"].get(name)
        if now is None:
            breaks.append(f"struct {name} is gone")
            continue
        for i, member in enumerate(members):
            have = now[i] if i < len(now) else "(nothing)"
            if have != member:
                breaks.append(f'struct {name}: "{member}" became "{have}"')
                break
        else:
            if len(now) > len(members) and not may_grow(name, members):
                breaks.append(f"struct {name} grew, and its size is part of the ABI")
    for name, value in old["constants"].items():
        if name not in new["constants"]:
            breaks.append(f"{name} is gone")
        elif new["constants"][name] != value:
            breaks.append(f"{name}: {value} became {new['constants'][name]}")
    return breaks


def find_faults(layout):
    """Rules that hold for any one header: no growing struct by value, no number used twice."""
    faults = []
    structs = layout["structs"]
    for name, members in structs.items():
        for member in members:
            _, field, kind = member.split(" ", 2)
            base = kind.split("[")[0].removeprefix("const ")
            if base in structs and may_grow(base, structs[base]):
                faults.append(f"struct {name} embeds {base} by value in {field}; it may grow")
    for prefix in ("PST_E_", "PST_CAP_"):
        seen = {}
        for constant, value in layout["constants"].items():
            if not constant.startswith(prefix):
                continue
            if value in seen:
                faults.append(f"{constant} and {seen[value]} are the same number")
            seen[value] = constant
    return faults


def print_probe(header):
    """C for any ABI: compile with -Wpadded. sizeof makes clang lay the struct out at all; a 64-bit
    member at an offset that is no multiple of 8 would move between i386 and the rest."""
    layout = read_layout(header)
    print(f"#include <penstock/{header}>")
    for name, members in layout["structs"].items():
        print(f'_Static_assert(sizeof(struct {name}) > 0, "{name}");')
        for member in members:
            _, field, kind = member.split(" ", 2)
            if re.match(r"(const )?(u?int64_t|double)\b(?!\*)", kind):
                print(f'_Static_assert(offsetof(struct {name}, {field}) % 8 == 0, '
                      f'"{name}.{field} at a multiple of 8");')


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "probe":
        print_probe(sys.argv[2])
        return
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "write"):
        sys.exit(__doc__)
    action, header, baseline = sys.argv[1:]
    layout = read_layout(header)
    faults = find_faults(layout)
    if action == "write":
        with open(baseline, "w", encoding="utf-8") as f:
            json.dump(layout, f, indent=1)
            f.write("\n")
    else:
        with open(baseline, encoding="utf-8") as f:
            faults += compare(json.load(f), layout)
    for fault in faults:
        print(f"{header}: {fault}")
    print(f"{header}: {len(layout['structs'])} structs, {len(layout['constants'])} constants, "
          f"{len(faults)} breaks")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Prove that examples/rust-plugin/src/abi.rs says what <penstock/plugin.h> says.

    rust_layout.py ABI_RS INCLUDE_DIR [CC]

The Rust compiler has proved that the offsets written in abi.rs are those of its structs. This turns
each of them, each size and each constant into a C assertion and compiles the lot. Then it changes one
number and sees the compilation fail, so that the check itself is known to check.
"""
import re
import subprocess
import sys
import tempfile

RESERVED = {"type_": "type"}  # Rust keywords


def read_abi(text):
    """The assertions as C text, and how many there are."""
    lines = []
    for name, value in re.findall(r"pub const (PST_\w+): \w+ = ([^;]+);", text):
        value = value.replace("u64::MAX", "UINT64_MAX").replace("1 <<", "1ull <<")
        lines.append(f'_Static_assert({name} == ({value}), "{name}");')
    structs = re.findall(r"c_struct! \{ \w+ = (\w+), (\d+) \{(.*?)\}\}", text, re.S)
    for struct, size, body in structs:
        lines.append(f'_Static_assert(sizeof({struct}) == {size}, "sizeof {struct}");')
        for offset, member in re.findall(r"^\s*(\d+) (\w+):", body, re.M):
            member = RESERVED.get(member, member)
            lines.append(f'_Static_assert(offsetof({struct}, {member}) == {offset}, '
                         f'"{struct}.{member}");')
    return lines


def compiles(lines, include, cc):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write("#include <penstock/plugin.h>\n" + "\n".join(lines) + "\n")
        source.flush()
        return subprocess.run([cc, "-std=c11", "-fsyntax-only", "-I", include, source.name],
                              capture_output=True, text=True)


def structs_of(header):
    return set(re.findall(r"^typedef struct (pst_\w+) \{", header, re.M)) | set(
        re.findall(r"^struct (pst_\w+) \{", header, re.M))


def main():
    abi_rs, include = sys.argv[1], sys.argv[2]
    cc = sys.argv[3] if len(sys.argv) > 3 else "cc"
    with open(abi_rs, encoding="utf-8") as f:
        text = f.read()
    lines = read_abi(text)

    # What the header has and abi.rs lacks; arguments of slots that the plugin leaves NULL may be.
    with open(include + "/penstock/plugin.h", encoding="utf-8") as f:
        header = f.read()
    ours = set(re.findall(r"c_struct! \{ \w+ = (\w+),", text))
    unused = {s for s in structs_of(header) if re.match(r"pst_(container|presign|cleanup)_", s)}
    lacking = structs_of(header) - ours - unused
    if lacking or len(lines) < 200:
        print(f"rust_layout: {len(lines)} facts; structs not in {abi_rs}: {sorted(lacking)}")
        return 1

    result = compiles(lines, include, cc)
    if result.returncode != 0:
        print(result.stderr)
        return 1
    wrong = [re.sub(r"offsetof\(pst_op, scratch\) == (\d+)",
                    lambda m: m[0] + "1", line) for line in lines]
    if wrong == lines or compiles(wrong, include, cc).returncode == 0:
        print("rust_layout: a wrong offset was not noticed")
        return 1
    print(f"rust_layout: {len(lines)} sizes, offsets and constants agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())

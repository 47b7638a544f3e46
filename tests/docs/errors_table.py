#!/usr/bin/env python3
"""The table of docs/errors.md says what penstock/status.h says: errors_table.py SOURCE_DIR"""
import os
import re
import sys


def read_header(path):
    with open(path, encoding="utf-8") as f:
        rows = re.findall(r'^\s*X\((\w+), (-\d+), "([^"]*)", (\d+)\)', f.read(), re.M)
    return [("PST_E_" + name, number, text, code) for name, number, text, code in rows]


def read_document(path):
    with open(path, encoding="utf-8") as f:
        return re.findall(r"^\| `(PST_E_\w+)` \| (-\d+) \| ([^|]*) \| (\d+) \| [^|]+ \|$", f.read(),
                          re.M)


def main():
    source = sys.argv[1]
    header = read_header(os.path.join(source, "sdk/include/penstock/status.h"))
    document = read_document(os.path.join(source, "docs/errors.md"))
    for want, have in zip(header, document):
        if want != have:
            print(f"errors_table: status.h has {want}, docs/errors.md {have}")
            return 1
    if len(header) < 22 or len(header) != len(document):
        print(f"errors_table: {len(header)} codes in status.h, {len(document)} in docs/errors.md")
        return 1
    print(f"errors_table: {len(header)} codes agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())

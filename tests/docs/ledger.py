#!/usr/bin/env python3
"""The ledger of docs/abi.md names what the headers of the ABI define, no more, no less.

    ledger.py SOURCE_DIR            compare
    ledger.py SOURCE_DIR --print    show the rows as they should be
"""
import os
import re
import sys

HEADERS = ("base.h", "status.h", "plugin.h", "services.h")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def functions_in(text, struct):
    body = re.search(rf"struct {struct} \{{(.*?)^\}}", text, re.S | re.M)[1]
    return re.findall(r"^ {4}\w[\w ]*?\**\(\*(\w+)\)\(", body, re.M)


def read_headers(source):
    text = strip_comments("".join(read(f"{source}/sdk/include/penstock/{h}") for h in HEADERS))
    constants = re.findall(r"^#define (PST_[A-Z0-9_]+) ", text, re.M)
    caps = [c for c in constants if c.startswith("PST_CAP_")]
    options = [c for c in constants if c.startswith("PST_OPT_")]
    other = [c for c in constants if c not in caps and c not in options and
             not re.match(r"PST_(ABI_|PLUGIN_SYMBOL|ERROR_INIT|STATUS_|EXPORT|API|NODISCARD)", c)]
    return {
        "host": functions_in(text, "pst_host"),
        "slots": functions_in(text, "pst_backend_ops"),
        "plugin": functions_in(text, "pst_plugin"),
        "service http/1": functions_in(text, "pst_http_1"),
        "service crypto/1": functions_in(text, "pst_crypto_1"),
        "service cred/1": functions_in(text, "pst_cred_1"),
        "structs": re.findall(r"^(?:typedef )?struct (pst_\w+) \{", text, re.M),
        "capabilities": caps,
        "options": options,
        "answers, flags and values": other,
    }


def read_ledger(source):
    section = read(f"{source}/docs/abi.md").split("## The ledger")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.M)
    return {kind.strip(): re.findall(r"`(\w+)`", names) for kind, names in rows}


def main():
    source = sys.argv[1]
    want = read_headers(source)
    if "--print" in sys.argv:
        for kind, names in want.items():
            print(f"| {kind} | " + " ".join(f"`{name}`" for name in names) + " |")
        return 0
    have = read_ledger(source)
    failures = 0
    for kind, names in want.items():
        for name in sorted(set(names) ^ set(have.get(kind, []))):
            where = "docs/abi.md" if name in names else "the headers"
            print(f"ledger: {kind}: {name} is missing in {where}")
            failures += 1
    total = sum(len(names) for names in want.values())
    print(f"ledger: {total} names, {failures} differ")
    return 1 if failures or total < 140 else 0


if __name__ == "__main__":
    sys.exit(main())

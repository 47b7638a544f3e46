#!/usr/bin/env python3
"""check_document.py: docs/conformance.md lists exactly the requirements of the table in the kit.

With --write the document is made to.
"""
import os
import subprocess
import sys

MARK = "<!-- What follows is printed by `penstock conformance --markdown`. -->\n"


def main():
    source = os.environ.get("PST_TEST_SOURCE") or os.path.join(os.path.dirname(__file__), "../..")
    path = os.path.join(source, "docs/conformance.md")
    command = [os.path.join(os.environ["PST_TEST_BIN"], "penstock"), "conformance", "--markdown"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with open(path, encoding="utf-8") as f:
        head, mark, rest = f.read().partition(MARK)
    if not mark:
        sys.exit(f"{path}: the line that marks the generated part is missing")
    if "--write" in sys.argv[1:]:
        with open(path, "w", encoding="utf-8") as f:
            f.write(head + mark + table)
        return
    if table.count("\n| PST-") < 100:
        sys.exit("the kit prints hardly any requirement")
    if rest != table:
        sys.exit("docs/conformance.md differs from the kit: tests/conformance/check_document.py "
                 "--write")
    print(f"ok 1 - the document has the {table.count(chr(10) + '| PST-')} requirements of the kit")


main()

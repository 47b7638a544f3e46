#!/usr/bin/env python3
"""totals.py JUNIT ALLOWED_SKIPS: the totals of a ctest run, and its verdict.

A skipped test (return code 77, or a cmocka test that called skip()) fails the run unless its name
stands in ALLOWED_SKIPS as `name: reason`. A name allowed to be skipped that is not a test of the
run is no error: the file serves every preset.
"""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

LAST_LINES = 30


def read_allowed(path):
    allowed = {}
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, colon, reason = line.partition(":")
            if not colon or not reason.strip():
                sys.exit(f"{path}:{number}: want `test name: reason`")
            allowed[name.strip()] = reason.strip()
    return allowed


def main():
    junit, allowed_path = sys.argv[1:]
    if not os.path.exists(junit):
        sys.exit("totals: ctest left no report: it did not run")
    allowed = read_allowed(allowed_path)
    passed, failed, skipped, cases = [], {}, [], 0
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        name = case.get("name")
        output = case.findtext("system-out") or ""
        cases += len(re.findall(r"^\[       OK \]|^ok \d+", output, re.M))
        # A cmocka program that both skips and fails is reported by ctest as skipped.
        if case.find("failure") is not None or re.search(r"^\[  FAILED  \]", output, re.M):
            failed[name] = output
        elif case.get("status") == "run":
            passed.append(name)
        elif case.find("skipped") is not None:
            skipped.append(name)
        else:
            failed[name] = output
    # Whoever reads the end of a long log finds what failed and why.
    for name, output in failed.items():
        print(f"failed: {name}", *output.splitlines()[-LAST_LINES:], sep="\n  | ")
    forbidden = [name for name in skipped if name not in allowed]
    for name in skipped:
        print(f"skipped: {name}: {allowed.get(name, 'not allowed to be skipped')}")
    if not passed and not failed and not skipped:
        sys.exit("totals: no test ran")
    print(f"{cases} cases passed")
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed or forbidden else 0)


main()

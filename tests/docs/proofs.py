#!/usr/bin/env python3
"""What docs/abi.md names as proof is there: proofs.py SOURCE_DIR

Requirements of the kit exist, paths exist, and each rule names every violation that
tests/contract/faults.txt plants against it.
"""
import os
import re
import sys


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def expand(text):
    """PST-X-015 to 018, 020 and 022: all of them."""
    for group, first, rest in re.findall(r"PST-([A-Z]+)-(\d{3})((?:(?:,| and| to) \d{3})*)", text):
        yield group, int(first)
        last = int(first)
        for word, number in re.findall(r"(,| and| to) (\d{3})", rest):
            numbers = range(last + 1, int(number) + 1) if word == " to" else [int(number)]
            yield from ((group, n) for n in numbers)
            last = int(number)


def main():
    source = sys.argv[1]
    text = read(source, "docs/abi.md")
    known = {(group, int(number)) for group, number in
             re.findall(r"K_REQ\((\w+), (\d+)", read(source, "cli/conformance/requirements.h"))}
    wrong = [f"PST-{group}-{n:03} is no requirement" for group, n in expand(text)
             if (group, n) not in known]
    named = set(expand(text))
    for path in re.findall(r"`((?:tests|\.ci|examples|plugins)/[\w./-]+)`", text):
        if not os.path.exists(os.path.join(source, path)):
            wrong.append(f"{path} does not exist")
    rules = dict(re.findall(r"^### (\d+)\. (.*?)(?=^##)", text, re.S | re.M))
    faults = [line.split() for line in read(source, "tests/contract/faults.txt").splitlines()
              if line and not line.startswith("#")]
    for fault, rule, test in faults:
        if f"`{fault}`" not in rules[rule] or f"/{test}.c`" not in rules[rule]:
            wrong.append(f"rule {rule} does not name {fault} of {test}")
    for line in wrong:
        print(f"proofs: docs/abi.md: {line}")
    print(f"proofs: {len(rules)} rules, {len(named)} requirements, {len(faults)} planted violations, "
          f"{len(wrong)} wrong")
    return 1 if wrong or len(rules) != 20 or len(named) < 60 else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a user writes first: ten_lines.py URI, which ends in a slash"""
import sys
import penstock

base = sys.argv[1]
for i in range(10):
    penstock.put_bytes(f"{base}{i}", b"object %d" % i)
assert penstock.get(base + "3") == b"object 3"
assert penstock.get_range(base + "3", 7) == b"3"
found = penstock.get_many([f"{base}{i}" for i in range(10)])
assert [bytes(view) for _, view in found] == [b"object %d" % i for i in range(10)]
assert sorted(penstock.list(base)) == [f"{base}{i}" for i in range(10)]
print("ten objects written, read, ranged, listed below", base, "by", penstock.__version__)

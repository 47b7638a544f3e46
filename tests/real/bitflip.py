#!/usr/bin/env python3
"""A byte that changes on the server's disk is noticed. versitygw keeps objects as plain files and their
checksums beside them, and does not look: it is the reader who must."""
import os

import support

MIB = support.MIB


class BitFlip(support.Case):
    server = "versitygw"

    def flip(self, key, at):
        path = os.path.join(os.environ["PST_VERSITYGW_ROOT"], self.bucket, key)
        before = os.stat(path)
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def check(self, n, algorithm, *args):
        data = os.urandom(n)
        self.write("data", data)
        self.run_ok("put", "-q", "-o", "s3.checksum=" + algorithm, *args, "data", self.s3_uri("object"))
        self.run_ok("get", "-q", "--verify", self.s3_uri("object"), "back")
        self.assertEqual(self.read("back"), data)
        os.unlink(self.path("back"))
        self.flip("object", n * 2 // 3)

        result = self.run_raw("get", "-q", "--verify", self.s3_uri("object"), "back")
        self.assertEqual(result.returncode, support.cli_support.DATA, result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
        self.assertIn(b"object", result.stderr)
        self.assertFalse(os.path.exists(self.path("back")))
        # Without being asked it is delivered as it is, which shows that the server did not notice.
        self.run_ok("get", "-q", self.s3_uri("object"), "back")
        self.assertNotEqual(self.read("back"), data)

    def test_in_1_mib_with_crc32c(self):
        self.check(MIB, "crc32c")

    def test_in_1_mib_with_crc64nvme(self):
        self.check(MIB, "crc64nvme")

    def test_in_100_mib_of_parts_with_crc32c(self):
        self.check(100 * MIB, "crc32c", "--part-size", "16MiB")

    def test_in_100_mib_of_parts_with_crc64nvme(self):
        self.check(100 * MIB, "crc64nvme", "--part-size", "16MiB")


if __name__ == "__main__":
    support.main()

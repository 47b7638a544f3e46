#!/usr/bin/env python3
"""Stores that honour conditional writes are told from those that only seem to, by trying: MinIO
honours them on put and on complete, Ceph RGW on put only, S3Proxy lets writers race."""
import subprocess

import support


class Conditional:
    creates_once = True     # --create-only of an object that is one request
    parts_once = True       # ... of one that is uploaded in parts

    def writers(self, key, *args):
        """Eight at once; the exit codes, and what was said by those that failed."""
        running = [subprocess.Popen([support.cli_support.PENSTOCK, "put", "-q", "--create-only", *args,
                                     "data", self.s3_uri(key)], env=self.env, cwd=self.top,
                                    stderr=subprocess.PIPE) for _ in range(8)]
        said = {process.communicate()[1].decode() for process in running}
        return sorted(process.returncode for process in running), said - {""}

    def check(self, is_honoured, key, *args):
        codes, said = self.writers(key, *args)
        if is_honoured:
            self.assertEqual(codes, [0] + [support.cli_support.CONFLICT] * 7)
        else:
            # Refused rather than promised: what the store cannot do is a matter of usage.
            self.assertEqual(codes, [support.cli_support.USAGE] * 8)
            self.assertTrue(all("writers won a race" in line for line in said), said)
            self.assertEqual(self.keys(), [])

    def test_one_of_eight_creates_the_object(self):
        self.write("data", b"x" * 1000)
        self.check(self.creates_once, "put")

    def test_one_of_eight_creates_the_object_from_parts(self):
        self.write("data", b"x" * (11 << 20))
        self.check(self.parts_once, "upload", "--part-size", "5MiB")


class OnMinio(Conditional, support.Case):
    server = "minio"


class OnCephRgw(Conditional, support.Case):
    server = "ceph-rgw"
    parts_once = False


class OnS3proxy(Conditional, support.Case):
    server = "s3proxy"
    creates_once = parts_once = False


if __name__ == "__main__":
    support.main()

#!/usr/bin/env python3
"""A stream far longer than memory may grow, up from standard input and down to standard output.

  PST_STREAM_GIB   how long it is (2)
"""
import hashlib
import os
import random
import subprocess
import sys

import support

GIB = 1 << 30
PEAK_MAX_KIB = 256 * 1024
BLOCK = support.MIB


def blocks(n_bytes):
    """Bytes that do not compress and do not repeat: one random block, told apart by a counter."""
    noise = bytearray(random.Random(5).randbytes(BLOCK))
    for i in range(n_bytes // BLOCK):
        noise[:8] = i.to_bytes(8, "little")
        yield noise


def peak_of(process):
    """Wait, and tell exit code and peak of resident memory (VmHWM), in KiB. The kernel counts from the
    peak of whoever forked, which is far below what is asserted here."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss


class Stream(support.Case):
    server = "versitygw"

    def start(self, *args, **more):
        return subprocess.Popen([support.cli_support.PENSTOCK, *args], env=self.env, cwd=self.top,
                                stderr=sys.stderr, **more)

    def test_memory_stays_small_however_long_the_stream(self):
        n_bytes = int(os.environ.get("PST_STREAM_GIB", "2")) * GIB
        sent, got, n_got = hashlib.blake2b(), hashlib.blake2b(), 0

        process = self.start("put", "-", self.s3_uri("stream"), stdin=subprocess.PIPE)
        for block in blocks(n_bytes):
            sent.update(block)
            process.stdin.write(block)
        process.stdin.close()
        rc, peak_up = peak_of(process)
        self.assertEqual(rc, 0)
        head = self.s3.head_object(Bucket=self.bucket, Key="stream")
        self.assertEqual(head["ContentLength"], n_bytes)

        process = self.start("cat", self.s3_uri("stream"), stdout=subprocess.PIPE)
        while block := process.stdout.read(BLOCK):
            got.update(block)
            n_got += len(block)
        process.stdout.close()
        rc, peak_down = peak_of(process)
        self.assertEqual((rc, n_got, got.digest()), (0, n_bytes, sent.digest()))

        print(f"# {n_bytes // GIB} GiB: peak {peak_up // 1024} MiB up, {peak_down // 1024} MiB down")
        self.assertLess(peak_up, PEAK_MAX_KIB)
        self.assertLess(peak_down, PEAK_MAX_KIB)
        self.s3.delete_object(Bucket=self.bucket, Key="stream")


if __name__ == "__main__":
    support.main()

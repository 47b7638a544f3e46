#!/usr/bin/env python3
"""Many objects: a tree of documentation to S3 over TLS and back, and more keys than five pages hold.

  PST_TREE            the tree (/usr/share/doc)
  PST_SMALL_OBJECTS   how many small objects (5,001)
"""
import glob
import json
import os
import shutil
import subprocess

import support

N_SMALL = int(os.environ.get("PST_SMALL_OBJECTS", "5001"))


def make_tree(top, source="/usr/share/doc"):
    """As the shell would: cp -rL --no-preserve=all, without empty directories and dangling links."""
    subprocess.run(["cp", "-rL", "--no-preserve=all", source, top], check=False,
                   stderr=subprocess.DEVNULL)
    subprocess.run(["find", top, "-depth", "-type", "d", "-empty", "-delete"], check=True)


def write_small(top):
    for i in range(N_SMALL):
        folder = os.path.join(top, f"{i % 7}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"object {i:06}"), "wb") as f:
            f.write(b"%d " % i * (i % 50))


class Tree(support.Case):
    server = "minio-tls"

    def run_raw(self, *args, **more):
        return super().run_raw(*args, **{"timeout": 3000, **more})

    def test_documentation_comes_back_as_it_went(self):
        tree, back = self.path("tree"), self.path("back")
        make_tree(tree, os.environ.get("PST_TREE", "/usr/share/doc"))
        self.run_ok("cp", "-r", "-q", tree, self.s3_uri("docs"))
        self.run_ok("cp", "-r", "-q", self.s3_uri("docs"), back)
        done = subprocess.run(["diff", "-r", tree, back], check=False, capture_output=True)
        self.assertEqual((done.returncode, done.stdout[:2000]), (0, b""))
        n_files = sum(len(files) for _, _, files in os.walk(tree))
        self.assertGreater(n_files, 100)
        self.assertEqual(len(self.keys()), n_files)

    def test_thousands_of_objects_are_listed_fetched_and_deleted(self):
        small, back = self.path("small"), self.path("back")
        write_small(small)
        self.run_ok("cp", "-r", "-q", small, self.s3_uri("small"))
        self.assertEqual(self.run_ok("ls", "-r", "--count", self.s3_uri()), b"%d\n" % N_SMALL)
        listed = self.run_ok("ls", "-r", self.s3_uri()).decode().splitlines()
        wanted = sorted("small/" + os.path.relpath(path, small)
                        for path in glob.glob(small + "/*/*"))
        self.assertEqual(listed, [self.s3_uri(key) for key in wanted])
        self.assertEqual(sorted(self.keys()), wanted)
        self.run_ok("cp", "-r", "-q", self.s3_uri("small"), back)
        subprocess.run(["diff", "-r", small, back], check=True)
        self.run_ok("rm", "-r", "-q", "--yes", self.s3_uri("small"))
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.run_ok("ls", "-r", "--count", self.s3_uri()), b"0\n")

    def test_a_second_copy_has_nothing_to_do(self):
        os.mkdir(self.path("few"))
        for i in range(20):
            self.write(f"few/{i}", b"%d" % i * 1000)
        self.run_ok("cp", "-r", "-q", "few", self.s3_uri("few"))
        before = {e["Key"]: e["LastModified"] for e in
                  self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]}
        facts = json.loads(self.run_raw("cp", "-r", "-q", "--stats", "--json", "few",
                                        self.s3_uri("few")).stderr.splitlines()[-1])
        self.assertEqual(facts["bytes"], 0, facts)
        self.assertGreater(facts["http_reused"], 0, facts)
        self.assertEqual(facts["http_connections"] + facts["http_reused"], facts["http_requests"])
        self.assertGreater(facts["http_tls_seconds"], 0, facts)
        after = {e["Key"]: e["LastModified"] for e in
                 self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]}
        self.assertEqual(before, after)

    def tearDown(self):
        shutil.rmtree(self.top, ignore_errors=True)


if __name__ == "__main__":
    support.main()

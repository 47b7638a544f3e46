#!/usr/bin/env python3
"""An old plugin works with today's host.

    check.py FOLDER NAME     NAME.so of a version's FOLDER, made by `build`

The library is the one that was built then; that it is still the file whose sum README.md has is looked at
first. It passes today's kit, and today's command carries objects to its store and back. s3 does so against
the fault server, which serves without faults.
"""
import hashlib
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.environ.get("PST_TEST_SOURCE") or os.path.join(os.path.dirname(__file__), "../../..")
PENSTOCK = os.path.join(os.environ["PST_TEST_BIN"], "penstock")
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
from faults import FaultServer  # noqa: E402  pylint: disable=wrong-import-position

SIZES = {"empty": 0, "small": 1000, "dir/several parts": 20 << 20}


def run(*command, env=None):
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stdout.decode(errors="replace").splitlines()
                if not line.startswith("ok ")] # of the kit: what failed, and why
        sys.exit(f"corpus: {' '.join(command)} failed ({done.returncode}):\n" +
                 "\n".join(said[-50:]) + f"\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done


def check_sum(folder, name):
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as f:
        listed = dict((file, digest) for digest, file in
                      re.findall(r"^ +([0-9a-f]{64})  \./(\S+)$", f.read(), re.M))
    with open(os.path.join(folder, name + ".so"), "rb") as f:
        if listed.get(name + ".so") != hashlib.sha256(f.read()).hexdigest():
            sys.exit(f"corpus: {folder}/{name}.so is not the file that README.md tells of")


class Subject:
    def __init__(self, folder, name, options):
        self.library = os.path.abspath(os.path.join(folder, name + ".so"))
        self.options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        self.name = name
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "AWS_"))}

    def kit(self, *where):
        run(PENSTOCK, "conformance", self.library, *where, "--profile", "full", env=self.env)

    def penstock(self, *args):
        options = [f"{self.name}.{o}" if "=" in o else o for o in self.options]
        done = run(PENSTOCK, "-v", "--plugin-dir", os.path.dirname(self.library), *options, *args,
                   env=self.env)
        if f"loaded from {self.library}".encode() not in done.stderr:
            sys.exit(f"corpus: {args} did not use {self.library}:\n{done.stderr.decode()}")

    def round_trip(self, temp, uri):
        """There and back, every object as it was; then nothing is left of them."""
        source, back = os.path.join(temp, "source"), os.path.join(temp, "back")
        for key, size in SIZES.items():
            os.makedirs(os.path.dirname(os.path.join(source, key)), exist_ok=True)
            with open(os.path.join(source, key), "wb") as f:
                f.write(bytes(i * 7 & 255 for i in range(997)) * (size // 997) +
                        b"x" * (size % 997))
        self.penstock("cp", "-r", source + "/", uri)
        self.penstock("cp", "-r", uri, back + "/")
        run("diff", "-r", source, back)
        self.penstock("rm", "-r", "--yes", uri)


def check_local(subject, scheme, temp):
    for folder in "kit", "store/trip":
        os.makedirs(os.path.join(temp, folder))
    subject.kit("--uri", f"{scheme}://{temp}/kit/")
    subject.round_trip(temp, f"{scheme}://{temp}/store/trip/")


def check_rustmem(subject, temp):
    """Its objects are of the process: one command writes and reads back."""
    subject.kit("--uri", "rustmem://conformance/")
    path = os.path.join(temp, "object")
    with open(path, "wb") as f:
        f.write(os.urandom(3 << 20))
    subject.penstock("put", "--verify", path, "rustmem://box/object")


def main():
    folder, name = sys.argv[1:]
    check_sum(folder, name)
    with tempfile.TemporaryDirectory(prefix="penstock-corpus.") as temp:
        if name == "s3":
            with FaultServer("s3") as server:
                options = {"endpoint": "http://" + server.address, "region": "us-east-1",
                           "access_key_id": "KITACCESSKEY",
                           "secret_access_key": "kit-secret-access-key"}
                subject = Subject(folder, name, options)
                subject.kit("--faults", os.path.join(ROOT, "tests/servers/faults/s3.json"))
                subject.round_trip(temp, "s3://kit-bucket/trip/")
        elif name == "rustmem":
            check_rustmem(Subject(folder, name, {}), temp)
        else:
            check_local(Subject(folder, name, {}), {"directio": "direct"}.get(name, name), temp)
    print(f"corpus: {folder}/{name}.so: kit and round trip")


if __name__ == "__main__":
    main()

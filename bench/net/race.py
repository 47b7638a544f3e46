#!/usr/bin/env python3
"""race.py: the same work through Penstock, its peers and a plain receiver, in turn; see bench/race.

Reads are served by nginx from files in memory: the server costs least there, so the client is what shows.
Uploads go to S3 servers. All sides run as processes of their own that measure themselves, each round one
after the other. In its turn a side does the work twice: the first time, after a pause as long as the others'
turns, counts for peak memory and is shown as "after a pause"; the second is the figure. A side that takes
over SLOW times as long as Penstock runs in three rounds only.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys

MIB = 1 << 20
SLOW, SLOW_ROUNDS = 5, 3
PEERS = ["s3dlio", "obstore", "s3torchconnector", "boto3", "opendal", "tensorstore"]
HERE = os.path.dirname(os.path.abspath(__file__))


class Row:
    """One kind of work. `targets`: of Penstock's CPU, against the best peer's and the receiver's."""

    def __init__(self, name, verb, files, in_flight, per_peer=None, per_raw=None, unsigned=False):
        self.name, self.verb, self.in_flight = name, verb, in_flight
        self.n, self.size, self.ranged = files
        self.per_peer, self.per_raw, self.unsigned = per_peer, per_raw, unsigned

    @property
    def writes(self):
        return self.verb.startswith("put")


READS = [
    Row("1 GiB object", "get", (1, 1024 * MIB, False), 1, 0.35, 1.5),
    Row("64 x 16 MiB", "many", (64, 16 * MIB, False), 32, 0.35, 1.5),
    Row("1,000 x 1 MiB", "many", (1000, MIB, False), 32, 0.35, 1.5),
    Row("10,000 x 64 KiB", "many", (10000, 65536, False), 32, 0.25, 2.0),
    Row("10,000 ranges of 4 KiB, 32 in flight", "lat", (10000, 4096, True), 32),
    Row("10,000 ranges of 4 KiB, 256 in flight", "lat", (10000, 4096, True), 256),
]
WRITES = [
    Row("upload of 1 GiB", "put", (1, 1024 * MIB, False), 1, 0.5),
    Row("1,000 x 1 MiB puts", "puts", (1000, MIB, False), 32, 0.5),
    Row("upload of 1 GiB, payload not signed", "put", (1, 1024 * MIB, False), 1, 0.5, unsigned=True),
    Row("1,000 x 1 MiB puts, payload not signed", "puts", (1000, MIB, False), 32, 0.5, unsigned=True),
]


class Side:
    """A process that takes lines of work."""

    def __init__(self, name, command, endpoint):
        self.name = name
        env = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": endpoint}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)
        self.problem = None
        self.runs = []
        first = self.process.stdout.readline().strip()
        if first != "ready":
            self.problem = first or "does not start"

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def once(self, line):
        """The figures of one run, or None with `problem` set."""
        try:
            answer = self.ask(line)
            if not answer or answer[0] != "OK":
                self.problem = " ".join(answer) or "ended"
                return None
            if self.ask("drop - 0") != ["ready"]:
                self.problem = "ended"
                return None
        except BrokenPipeError:
            self.problem = "ended"
            return None
        keys = ["bytes", "seconds", "cpu", "growth", "p50", "p99", "p999"]
        return dict(zip(keys, map(float, answer[1:])))

    def turn(self, line):
        first = None if self.problem else self.once(line)
        second = self.once(line) if first else None
        if second:
            self.runs.append({**second, "growth": max(first["growth"], second["growth"]),
                              "paused_cpu": first["cpu"]})

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def median(self, key):
        return statistics.median(run[key] for run in self.runs)

    def quartiles(self, key):
        values = [run[key] for run in self.runs]
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, high


def list_of(row, folder):
    """The objects of a row, as the sides read them: KEY OFFSET BYTES."""
    path = os.path.join(folder, f"{row.verb}-{row.n}-{row.size}-{row.ranged}")
    shuffle = random.Random(1)
    with open(path, "w", encoding="ascii") as file:
        for i in range(row.n):
            if row.ranged:
                offset = shuffle.randrange(1024 * MIB // row.size) * row.size
                file.write(f"one.bin {offset} {row.size}\n")
            else:
                file.write(f"{row.size}/{i} - {row.size}\n")
    return path


def fill(root):
    """The files that nginx serves: bytes that cannot be compressed, a different block in each."""
    block = os.urandom(16 * MIB)
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, "one.bin"), "wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 * MIB))
    for row in READS:
        if row.ranged or row.n == 1:
            continue
        os.makedirs(os.path.join(root, str(row.size)), exist_ok=True)
        for i in range(row.n):
            with open(os.path.join(root, str(row.size), str(i)), "wb") as file:
                file.write(block[:row.size])


def make_bucket(endpoint, args):
    subprocess.run([os.path.join(args.bin, "bin/penstock"), "mb", "--option", f"endpoint={endpoint}",
                    "s3://bench"], check=True)


def sides_for(row, endpoint, args):
    """Name and command of each side that can do the row."""
    bucket = "bench"
    address, port = endpoint.split("//")[1].split(":")
    found = []
    if not row.writes:
        found.append(("plain receiver", [os.path.join(args.bin, "bench/bench_raw"), address, port, bucket]))
    ours = [os.path.join(args.bin, "bench/bench_ours"), endpoint, bucket] + args.option
    found.append(("penstock", ours + ["payload_signing=unsigned"] * row.unsigned))
    if args.python:
        for peer in args.peer or PEERS:
            command = [args.python, os.path.join(HERE, "peers.py"), peer, endpoint, bucket]
            found.append((peer, command + ["unsigned"] * row.unsigned))
    return found


def empty_trash(name):
    """MinIO keeps for five minutes what was overwritten, and all is in memory here."""
    root = os.environ.get(f"PST_{name.upper()}_ROOT")
    trash = os.path.join(root or "", ".minio.sys/tmp/.trash")
    for entry in os.listdir(trash) if root and os.path.isdir(trash) else []:
        shutil.rmtree(os.path.join(trash, entry), ignore_errors=True)


def race(row, name, endpoint, args):
    line = f"{row.verb} {'one.bin' if row.verb == 'get' else 'one.put'} {row.size}" \
        if row.n == 1 else f"{row.verb} {list_of(row, args.scratch)} {row.in_flight}"
    sides = [Side(name, command, endpoint) for name, command in sides_for(row, endpoint, args)]
    for number in range(args.rounds):
        limit_s = SLOW * min([side.median("seconds") for side in sides
                              if side.name == "penstock" and side.runs], default=0)
        for side in sides:
            if number < SLOW_ROUNDS or side.runs and side.median("seconds") <= limit_s:
                side.turn(line)
                empty_trash(name)
    for side in sides:
        side.stop()
    return sides


def judge(row, sides):
    """Lines about the targets, and whether all were met."""
    ran = {side.name: side for side in sides if side.runs}
    ours, raw = ran.get("penstock"), ran.get("plain receiver")
    peers = [side for name, side in ran.items() if name in PEERS]
    if ours is None:
        return ["Penstock did not finish"], False
    lines, good = [], True

    def target(what, value, limit, at_most):
        nonlocal good
        met = value <= limit if at_most else value >= limit
        good = good and met
        lines.append(f"{what} {value:.2f} ({'at most' if at_most else 'at least'} {limit:g}: "
                     f"{'met' if met else 'MISSED'})")

    if peers:
        best_cpu = min(peers, key=lambda side: side.median("cpu"))
        best_wall = min(peers, key=lambda side: side.median("seconds"))
        ratio = ours.median("cpu") / best_cpu.median("cpu")
        if row.per_peer:
            target(f"CPU against {best_cpu.name}", ratio, row.per_peer, True)
        else:
            lines.append(f"CPU against {best_cpu.name} {ratio:.2f}")
        target(f"throughput against {best_wall.name}",
               best_wall.median("seconds") / ours.median("seconds"), 0.95, False)
    if raw:
        ratio = ours.median("cpu") / raw.median("cpu")
        if row.per_raw:
            target("CPU against the plain receiver", ratio, row.per_raw, True)
        else:
            lines.append(f"CPU against the plain receiver {ratio:.2f}")
        low, high = raw.quartiles("cpu")
        lines.append(f"noise (quartiles of the plain receiver's CPU) "
                     f"{low / raw.median('cpu'):.2f} to {high / raw.median('cpu'):.2f}")
    result = 0 if row.writes else row.n * row.size
    limit = 1.05 * result + 64 * MIB if not row.writes else None
    if limit:
        target("growth of peak memory / (1.05 x result + 64 MiB)", ours.median("growth") / limit, 1,
               True)
    return lines, good


def table(row, server_name, sides):
    out = [f"### {row.name}, {server_name}", "",
           "| side | GB/s | client CPU, s/GB | after a pause | CPU, us/operation | peak growth, MiB | "
           "p50, us | p99, us | p99.9, us |", "|---|---|---|---|---|---|---|---|---|"]
    for side in sides:
        if not side.runs:
            why = "has no such call" if side.problem == "NONE" else side.problem
            out.append(f"| {side.name} | {why} | | | | | | | |")
            continue
        gb = side.median("bytes") / 1e9
        low, high = side.quartiles("cpu")
        points = [f"{side.median(p):.0f}" if row.verb == "lat" else "" for p in ("p50", "p99", "p999")]
        out.append(f"| {side.name} | {gb / side.median('seconds'):.2f} "
                   f"| {side.median('cpu') / gb:.3f} [{low / gb:.3f}..{high / gb:.3f}] "
                   f"| {side.median('paused_cpu') / gb:.3f} "
                   f"| {side.median('cpu') / row.n * 1e6:.1f} "
                   f"| {side.median('growth') / MIB:.0f} | " + " | ".join(points) + " |")
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--python")
    parser.add_argument("--peer", action="append")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", help="rows whose name contains one of these")
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    plan = []
    for name, rows in (("nginx", READS), ("versitygw", WRITES), ("minio", WRITES[:2])):
        plan += [(row, name) for row in rows
                 if not args.only or any(word in row.name for word in args.only)]
    endpoints = {name: os.environ[f"PST_{name.upper()}_ENDPOINT"] for _, name in plan}
    for name, endpoint in endpoints.items():
        if name == "nginx":
            fill(os.path.join(os.environ["PST_NGINX_ROOT"], "bench"))
        else:
            make_bucket(endpoint, args)
    results, all_good = [], True
    for row, name in plan:
        sides = race(row, name, endpoints[name], args)
        lines, good = judge(row, sides)
        all_good = all_good and good
        print("\n".join(table(row, name, sides) + [""] + [f"- {line}" for line in lines]) + "\n",
              flush=True)
        results.append({"row": row.name, "server": name, "judgement": lines, "met": good, "sides": [
            {"name": side.name, "problem": side.problem, "runs": side.runs} for side in sides]})
    with open(args.json, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    sys.exit(0 if all_good else 3)


main()

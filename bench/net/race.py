#!/usr/bin/env python3
"""race.py: the same work through Penstock, its peers and a plain receiver, in turn; see bench/race.

Reads are served by nginx from files in memory: the server costs least there, so the client is what shows.
Uploads go to S3 servers. All sides run as processes of their own that measure themselves, each round one
after the other. In its turn a side does the work twice: the first time, after a pause as long as the others'
turns, counts for peak memory and is shown as "after a pause"; the second is the figure. A side that takes
over SLOW times as long as Penstock runs in three rounds only. With --python Penstock runs from Python, too.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading

import rows
from judge import judge, table
from rows import C, MIB

SLOW, SLOW_ROUNDS = 5, 3
LIMIT_S = 180  # for one line of work; the slowest takes 16
HERE = os.path.dirname(os.path.abspath(__file__))


class Side:
    """A process that takes lines of work."""

    def __init__(self, name, command, endpoint, args):
        self.name = name
        env = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": endpoint,
               "PYTHONPATH": os.path.abspath(os.path.join(args.bin, "python"))}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)
        self.problem = None
        self.runs = []
        first = self.process.stdout.readline().strip()
        if first != "ready":
            self.problem = first or "does not start"

    def ask(self, line):
        """Its answer, or nothing: a side that hangs is ended, and the others go on."""
        timer = threading.Timer(LIMIT_S, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return self.process.stdout.readline().split()
        finally:
            timer.cancel()

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
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, and `problem` says so
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            print(f"race: {self.name} does not end by itself", file=sys.stderr)
            self.process.kill()

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


def fill(root, reads):
    """The files that nginx serves: bytes that cannot be compressed, a different block in each."""
    block = os.urandom(16 * MIB)
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, "one.bin"), "wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 * MIB))
    for row in reads:
        if row.ranged or row.is_one_object:
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
    options = args.option + ["payload_signing=unsigned"] * row.unsigned
    found = []
    if not row.writes:
        found.append(("plain receiver", [os.path.join(args.bin, "bench/bench_raw"), address, port, bucket]))
    found.append((C, [os.path.join(args.bin, "bench/bench_ours"), endpoint, bucket] + options))
    script = [args.interpreter or sys.executable, os.path.join(HERE, "peers.py")]
    for name in row.python_sides:
        found.append((name, script + [name, endpoint, bucket] + options))
    if args.interpreter and row.has_peers:
        for peer in args.peer or (rows.PYTHON_PEERS if args.python else rows.PEERS):
            found.append((peer, script + [peer, endpoint, bucket] + ["unsigned"] * row.unsigned))
    return found


def empty_trash(name):
    """MinIO keeps for five minutes what was overwritten, and all is in memory here."""
    root = os.environ.get(f"PST_{name.upper()}_ROOT")
    trash = os.path.join(root or "", ".minio.sys/tmp/.trash")
    for entry in os.listdir(trash) if root and os.path.isdir(trash) else []:
        shutil.rmtree(os.path.join(trash, entry), ignore_errors=True)


def race(row, name, endpoint, args):
    line = f"{row.verb} {'one.bin' if row.verb == 'get' else 'one.put'} {row.size}" \
        if row.is_one_object else f"{row.verb} {list_of(row, args.scratch)} {row.in_flight}"
    sides = [Side(side, command, endpoint, args) for side, command in sides_for(row, endpoint, args)]
    for number in range(min(args.rounds, row.rounds or args.rounds)):
        limit_s = SLOW * min([side.median("seconds") for side in sides
                              if side.name == C and side.runs], default=0)
        for side in sides:
            if number < SLOW_ROUNDS or side.runs and side.median("seconds") <= limit_s:
                side.turn(line)
                empty_trash(name)
    for side in sides:
        side.stop()
    return sides


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--interpreter", help="the Python that has the peers; without it none runs")
    parser.add_argument("--python", action="store_true", help="Penstock from Python, too")
    parser.add_argument("--peer", action="append")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", help="rows whose name contains one of these")
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    plan = rows.plan(args.python, args.only)
    endpoints = {name: os.environ[f"PST_{name.upper()}_ENDPOINT"] for _, name in plan}
    for name, endpoint in endpoints.items():
        if name == "nginx":
            fill(os.path.join(os.environ["PST_NGINX_ROOT"], "bench"),
                 [row for row, server in plan if server == name])
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

#!/usr/bin/env python3
"""Ten thousand operations while the network and the server break: storm.c judges every answer, this
breaks and mends, and afterwards boto3 is asked what is really there.

The faults follow the count of operations that storm prints, so a slow machine has as many of each as a
quick one. Seed and size: PST_CHAOS_SEED (1), PST_CHAOS_OPERATIONS (10,000).
"""
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
import zlib

import support

PROXY = os.environ.get("PST_TOXIPROXY_ENDPOINT")
PREFIX = "some/where/"
STAGES = 20
FAULT_S = 2.0  # a fault that stops the operations altogether is mended after this long


def toxic(kind, stream="downstream", toxicity=1.0, **attributes):
    return {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}


FAULTS = [
    [toxic("latency", latency=30, jitter=30)],
    [toxic("bandwidth", rate=4000), toxic("bandwidth", "upstream", rate=4000)],
    [toxic("limit_data", bytes=150000)],
    [toxic("limit_data", "upstream", bytes=150000)],
    "kill",
    [toxic("reset_peer", timeout=20, toxicity=0.6)],
    [toxic("slicer", average_size=500, size_variation=400, delay=50)],
    [toxic("timeout", timeout=300, toxicity=0.5)],
    [toxic("timeout", "upstream", timeout=300, toxicity=0.5)],
    "cut",
    [toxic("reset_peer", "upstream", timeout=5)],
]


class Network:
    """toxiproxy between storm and the server. A toxic is drawn when a connection opens, so those that
    are open are cut when it comes and when it goes: every fault finds connections. A proxy that has
    connections is never given a toxic nor rid of one: toxiproxy 2.5 can lock itself up then."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.listen = self.make("127.0.0.1:0", True)
        self.endpoint = "http://" + self.listen

    def ask(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(PROXY + path, data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def make(self, listen, is_on):
        return self.ask("POST", "/proxies", {"name": "store", "listen": listen, "enabled": is_on,
                                             "upstream": self.upstream})["listen"]

    def cut(self):
        """Nothing gets through, and nothing is open."""
        self.ask("DELETE", "/proxies/store")
        self.make(self.listen, False)

    def disturb(self, toxics):
        self.cut()
        for number, one in enumerate(toxics):
            self.ask("POST", "/proxies/store/toxics", {"name": f"t{number}", **one})
        self.ask("POST", "/proxies/store", {"enabled": True})

    def mend(self):
        self.disturb([])


class Chaos(support.Case):
    server = "minio"

    def kill_server(self):
        """SIGKILL to the server that tests/servers/up --restart will start again, and wait for that."""
        folder = os.path.join(os.environ["PST_SERVERS_DIR"], self.server)
        with open(os.path.join(folder, "pid"), encoding="ascii") as f:
            pid = int(f.read())
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            self.assertIn(folder.encode(), f.read())  # it is that server and nobody else
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while True:
            with open(os.path.join(folder, "pid"), encoding="ascii") as f:
                if int(f.read()) != pid:
                    return
            self.assertLess(time.monotonic(), deadline, "the server did not come back")
            time.sleep(0.05)

    def break_things(self, network, progress, n_total):
        """One fault at the beginning of each stage but the first, for half of it or FAULT_S."""
        for stage in range(1, STAGES):
            progress.wait_for(stage * n_total // STAGES)
            fault = FAULTS[(stage - 1) % len(FAULTS)]
            if progress.is_over:
                return
            if fault == "kill":
                self.kill_server()
                continue
            if fault == "cut":
                network.cut()
            else:
                network.disturb(fault)
            progress.wait_for((2 * stage + 1) * n_total // STAGES // 2, FAULT_S)
            network.mend()

    def run_storm(self, network, n_operations):
        # What toxiproxy swallows is missed sooner than after 30 seconds.
        self.write("config", b'{"s3": {"stall_timeout": "4s", "connect_timeout": "4s"}}')
        env = {**self.env, "AWS_ENDPOINT_URL_S3": network.endpoint,
               "PENSTOCK_CONFIG": self.path("config")}
        seed = os.environ.get("PST_CHAOS_SEED", "1")
        storm = subprocess.Popen(
            [os.path.join(support.BINARY, "tests/real/storm"), self.s3_uri(PREFIX), seed,
             str(n_operations), "8", self.path("ledger")],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        progress, totals = Progress(), {}
        breaker = threading.Thread(target=self.break_things,
                                   args=(network, progress, n_operations))
        breaker.start()
        for line in storm.stdout:
            if line.startswith("{"):
                totals = json.loads(line)
            elif line.startswith("healing"):
                progress.end()
                breaker.join()
                network.mend()
                storm.stdin.write("whole\n")
                storm.stdin.close()
            else:
                progress.reach(int(line))
        progress.end()
        breaker.join()
        storm.stdout.close()
        self.assertEqual(storm.wait(), 0, "storm says what was wrong above")
        return totals

    def state_of(self, key):
        try:
            body = self.body(key)
        except self.s3.exceptions.NoSuchKey:
            return "-"
        return f"{len(body)}:{zlib.crc32(body):08x}"

    def test_every_answer_is_right_and_nothing_is_left_behind(self):
        n_operations = int(os.environ.get("PST_CHAOS_OPERATIONS", "10000"))
        network = Network(self.endpoint.removeprefix("http://"))
        totals = self.run_storm(network, n_operations)
        print("# " + json.dumps(totals))
        n_failed = sum(totals["failed"].values())
        # The faults did something, and most of the time Penstock got through nevertheless.
        self.assertGreater(n_failed + totals["retries"], 0)
        self.assertGreater(totals["ok"], n_operations // 2)
        # max_attempts is 5: the first is no retry.
        self.assertLessEqual(totals["retries"], 4 * totals["requests"])

        ledger = {}
        with open(self.path("ledger"), encoding="utf-8") as f:
            for line in f:
                key, *states = line.rstrip("\n").split("\t")
                ledger[PREFIX + key] = states
        there = set(self.keys())
        self.assertEqual(there - set(ledger), set(), "objects that nobody wrote")
        wrong = [(key, states, found) for key, states in ledger.items()
                 if (found := self.state_of(key)) not in states]
        self.assertEqual(wrong, [])
        self.assertEqual(len([k for k, s in ledger.items() if "-" not in s and k not in there]), 0)
        self.assert_no_uploads()

    def assert_no_uploads(self):
        """By its word, and on its disk: restarted it lists only those of one exact key. Killed while it
        writes xl.meta it leaves that empty, and denies the upload from then on: nobody can end it."""
        self.assertEqual(support.uploads(self.s3, self.bucket), [])
        top = os.path.join(os.environ["PST_MINIO_ROOT"], ".minio.sys/multipart")
        found = [os.path.join(folder, name, "xl.meta") for folder, names, _ in os.walk(top)
                 for name in names]
        self.assertEqual([path for path in found
                          if os.path.exists(path) and os.path.getsize(path) > 0], [])


class Progress:
    """How far storm is, for the thread that waits for it to get there."""

    def __init__(self):
        self.changed = threading.Condition()
        self.n, self.is_over = 0, False

    def reach(self, n):
        with self.changed:
            self.n = max(self.n, n)
            self.changed.notify_all()

    def end(self):
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def wait_for(self, n, seconds=None):
        with self.changed:
            self.changed.wait_for(lambda: self.n >= n or self.is_over, seconds)


if __name__ == "__main__":
    support.main()

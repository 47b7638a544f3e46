"""faults.py - the declarative fault server for tests written in Python.

    with FaultServer("s3") as server:
        server.put("bucket/key", b"data")
        server.set_faults({"on": "get", "fault": {"cut": {"at": "before_head"}}})
        ... a client of "http://" + server.address ...
        requests = server.log()
"""
import http.client
import json
import os
import subprocess
import urllib.parse

ROOT = os.environ.get("PST_TEST_SOURCE") or os.path.join(os.path.dirname(__file__), "../..")


class FaultServer:
    def __init__(self, declaration):
        """`declaration`: a name of tests/servers/faults, or a path."""
        path = declaration
        if "/" not in declaration:
            path = os.path.join(ROOT, "tests/servers/faults", declaration + ".json")
        penstock = os.path.join(os.environ["PST_TEST_BIN"], "penstock")
        self.process = subprocess.Popen([penstock, "conformance", "serve-faults", path],
                                        stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError(f"the fault server did not start: exit {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Stop it; a leak that a sanitizer finds is an error."""
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        if code != 0:
            raise RuntimeError(f"the fault server ended with {code}")

    def control(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, "/-/" + path, body)
            reply = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{method} /-/{path}: {reply.status} {content!r}")
        return content

    def set_faults(self, *rules):
        """Replace all rules; none: no faults."""
        self.control("PUT", "faults", json.dumps(rules))

    def log(self):
        return json.loads(self.control("GET", "log"))

    def forget_log(self):
        self.control("DELETE", "log")

    def forget_all(self):
        self.control("DELETE", "")

    def objects(self):
        return json.loads(self.control("GET", "objects"))

    def uploads(self):
        return json.loads(self.control("GET", "uploads"))

    def put(self, name, data):
        self.control("PUT", "objects/" + urllib.parse.quote(name), data)

    def get(self, name):
        return self.control("GET", "objects/" + urllib.parse.quote(name))

    def add_container(self, name):
        self.control("PUT", "containers/" + name)

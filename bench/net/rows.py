"""rows.py: the kinds of work of the two races, Penstock from C and from Python, with their targets."""

MIB = 1 << 20
C = "penstock"
PYTHON = "penstock (Python)"
GATHER = "penstock (gather of get_async)"
TASKS = "penstock (get_async in 32 tasks)"
MANY_ASYNC = "penstock (get_many_async)"
PUT_BYTES = "penstock (put_bytes)"
PEERS = ["s3dlio", "obstore", "s3torchconnector", "boto3", "opendal", "tensorstore"]
# boto3 and tensorstore have never been the best of a row, and take longest.
PYTHON_PEERS = ["s3dlio", "obstore", "s3torchconnector", "opendal"]


class Row:
    """One kind of work. Targets, None where there is none: `cpu` and `throughput` against the best peer's,
    `receiver` for the CPU against the plain receiver's; from Python also `over_c_us`, CPU for each object
    beyond what C takes, and `gather`, asyncio's CPU against get_many's. `rounds` is the most that it runs.
    """

    def __init__(self, name, verb, files, in_flight, cpu=None, receiver=None, throughput=0.95,
                 unsigned=False):
        self.name, self.verb, self.in_flight = name, verb, in_flight
        self.n, self.size, self.ranged = files
        self.cpu, self.receiver, self.throughput, self.unsigned = cpu, receiver, throughput, unsigned
        self.judged, self.python_sides, self.rounds, self.has_peers = C, [], None, True
        self.over_c_us = self.gather = None

    @property
    def writes(self):
        return self.verb.startswith("put")

    @property
    def is_one_object(self):
        return self.n == 1


class PythonRow(Row):
    def __init__(self, *args, sides=(), over_c_us=None, gather=None, throughput=None, has_peers=True,
                 **targets):
        super().__init__(*args, throughput=throughput, **targets)
        self.judged, self.python_sides = PYTHON, [PYTHON, *sides]
        self.over_c_us, self.gather, self.has_peers = over_c_us, gather, has_peers
        if self.cpu is None and over_c_us is None:
            self.rounds = 3


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
PYTHON_READS = [
    PythonRow("1 GiB object", "get", (1, 1024 * MIB, False), 1, 0.35),
    PythonRow("64 x 16 MiB", "many", (64, 16 * MIB, False), 32),
    PythonRow("1,000 x 1 MiB", "many", (1000, MIB, False), 32),
    PythonRow("10,000 x 64 KiB", "many", (10000, 65536, False), 32, 0.3, throughput=1.5,
              sides=[GATHER, TASKS, MANY_ASYNC], over_c_us=2, gather=1.5),
    # The same for each object, and less memory whose first touch costs now this, now that.
    PythonRow("10,000 x 4 KiB", "many", (10000, 4096, False), 32, over_c_us=2, has_peers=False),
    PythonRow("10,000 ranges of 4 KiB, 32 in flight", "lat", (10000, 4096, True), 32),
]
PYTHON_WRITES = [
    PythonRow("upload of 1 GiB, payload not signed", "put", (1, 1024 * MIB, False), 1,
              sides=[PUT_BYTES], unsigned=True),
    PythonRow("1,000 x 1 MiB puts, payload not signed", "puts", (1000, MIB, False), 32, unsigned=True),
]


def plan(is_python, words):
    """The rows whose names contain one of the words, each with the server that it runs against."""
    if is_python:
        groups = [("nginx", PYTHON_READS), ("versitygw", PYTHON_WRITES)]
    else:
        groups = [("nginx", READS), ("versitygw", WRITES), ("minio", WRITES[:2])]
    return [(row, server) for server, rows in groups for row in rows
            if not words or any(word in row.name for word in words)]

"""judge.py: what the figures of a row's sides say: its table, and lines about the targets."""
from rows import C, GATHER, MANY_ASYNC, MIB, PEERS, TASKS


class Verdict:
    def __init__(self):
        self.lines, self.good = [], True

    def fail(self, text):
        self.lines.append(text)
        self.good = False

    def tell_end(self, side):
        """A side that stopped after some rounds, which Penstock may not."""
        self.lines.append(f"{side.name} stopped in round {len(side.runs) + 1}: {side.problem}")
        self.good = self.good and not side.name.startswith(C)

    def tell(self, what, value, limit=None, at_most=True):
        """A figure, and whether it meets its target, where it has one."""
        if limit is None:
            self.lines.append(f"{what} {value:.2f}")
            return
        met = value <= limit if at_most else value >= limit
        self.good = self.good and met
        self.lines.append(f"{what} {value:.2f} ({'at most' if at_most else 'at least'} {limit:g}: "
                          f"{'met' if met else 'MISSED'})")


def against_peers(verdict, row, ours, peers):
    best_cpu = min(peers, key=lambda side: side.median("cpu"))
    best_wall = min(peers, key=lambda side: side.median("seconds"))
    verdict.tell(f"CPU against {best_cpu.name}", ours.median("cpu") / best_cpu.median("cpu"), row.cpu)
    verdict.tell(f"throughput against {best_wall.name}",
                 best_wall.median("seconds") / ours.median("seconds"), row.throughput, at_most=False)


def against_receiver(verdict, row, ours, raw):
    verdict.tell("CPU against the plain receiver", ours.median("cpu") / raw.median("cpu"), row.receiver)
    low, high = raw.quartiles("cpu")
    verdict.lines.append(f"noise (quartiles of the plain receiver's CPU) "
                         f"{low / raw.median('cpu'):.2f} to {high / raw.median('cpu'):.2f}")


def within_python(verdict, row, ours, ran):
    """What Python itself costs, and asyncio on top of it."""
    if C not in ran:
        verdict.fail("Penstock from C did not finish")
    elif row.is_one_object:
        verdict.tell("CPU against Penstock from C", ours.median("cpu") / ran[C].median("cpu"))
    else:
        verdict.tell("CPU beyond Penstock from C, us per object",
                     (ours.median("cpu") - ran[C].median("cpu")) / row.n * 1e6, row.over_c_us)
    if GATHER in row.python_sides:
        for name, limit in (GATHER, row.gather), (TASKS, None), (MANY_ASYNC, None):
            if name in ran:
                verdict.tell(f"CPU of {name} against get_many",
                             ran[name].median("cpu") / ours.median("cpu"), limit)
            else:
                verdict.fail(f"{name} did not finish")


def judge(row, sides):
    """Lines about the targets, and whether all were met."""
    verdict = Verdict()
    ran = {side.name: side for side in sides if side.runs}
    ours = ran.get(row.judged)
    if ours is None:
        return ["Penstock did not finish"], False
    for side in ran.values():
        if side.problem:
            verdict.tell_end(side)
    peers = [side for name, side in ran.items() if name in PEERS]
    if peers:
        against_peers(verdict, row, ours, peers)
    if "plain receiver" in ran:
        against_receiver(verdict, row, ours, ran["plain receiver"])
    if row.python_sides:
        within_python(verdict, row, ours, ran)
    if not row.writes:
        limit = 1.05 * row.n * row.size + 64 * MIB
        verdict.tell("growth of peak memory / (1.05 x result + 64 MiB)", ours.median("growth") / limit, 1)
    return verdict.lines, verdict.good


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

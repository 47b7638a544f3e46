#!/usr/bin/env python3
"""plot.py OUT.svg RACE.json: client CPU of every side, one group of bars for each kind of work.

The scale is logarithmic: sides differ by a factor of twenty. Colours are those of Okabe and Ito, which
people who see few colours can tell apart, and blues for Penstock; the order of the bars is the order of the
legend.
"""
import json
import math
import statistics
import sys
from xml.sax.saxutils import escape

from rows import GATHER, MANY_ASYNC, PUT_BYTES, PYTHON, TASKS

COLOURS = {"plain receiver": "#999999", "penstock": "#0072B2", PYTHON: "#003F66", GATHER: "#7A8FD6",
           TASKS: "#A9B7E8", MANY_ASYNC: "#4B5FA8", PUT_BYTES: "#8C6BB1", "s3dlio": "#D55E00",
           "obstore": "#009E73", "s3torchconnector": "#CC79A7", "boto3": "#E69F00",
           "opendal": "#56B4E9", "tensorstore": "#8F7700"}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1180, 460, 70, 80, 110


def cpu_per_gb(side):
    return statistics.median(run["cpu"] for run in side["runs"]) / (side["runs"][0]["bytes"] / 1e9)


def legend(names):
    """Beside each other while there is room, then in the next line."""
    out, x, y = [], LEFT, 44
    for name in names:
        width = 30 + 7 * len(name)
        if x + width > WIDTH:
            x, y = LEFT, y + 18
        out.append(f'<rect x="{x}" y="{y - 10}" width="11" height="11" fill="{COLOURS[name]}"/>'
                   f'<text x="{x + 15}" y="{y}">{escape(name)}</text>')
        x += width
    return out


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py OUT.svg RACE.json")
    with open(sys.argv[2], encoding="utf-8") as file:
        race = json.load(file)
    bars = [[(side["name"], cpu_per_gb(side)) for side in row["sides"] if side["runs"]]
            for row in race]
    if not any(bars):
        sys.exit("plot: no side has finished any kind of work")
    seen = {name for row in bars for name, _ in row}
    names = [name for name in COLOURS if name in seen]
    values = [value for row in bars for _, value in row]
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    span = max(1, high - low)
    base = HEIGHT - BOTTOM

    def y_of(value):
        return base - (math.log10(value) - low) / span * (base - TOP)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">Client CPU, seconds per GB (less is better)'
           '</text>']
    out += legend(names)
    for power in range(low, high + 1):
        y = y_of(10 ** power)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10 ** power:g}</text>')
    group = (WIDTH - LEFT - 10) / len(race)
    for i, (row, found) in enumerate(zip(race, bars)):
        width = (group - 14) / len(names)
        for k, (name, value) in enumerate(found):
            x, y = LEFT + i * group + 7 + k * width, y_of(value)
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 1:.1f}" '
                       f'height="{base - y:.1f}" fill="{COLOURS[name]}">'
                       f'<title>{escape(name)}: {value:.3f}</title></rect>')
        x = LEFT + i * group + 10
        out.append(f'<text x="{x:.1f}" y="{base + 14}" transform="rotate(25 {x:.1f} {base + 14})">'
                   f'{escape(row["row"])}, {escape(row["server"])}</text>')
    out.append("</svg>")
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


main()

#!/usr/bin/env python3
"""plot.py OUT.svg RACE.json: client CPU of every side, one group of bars for each kind of work.

The scale is logarithmic: sides differ by a factor of twenty. Colours are those of Okabe and Ito, which
people who see few colours can tell apart; the order of the bars is the order of the legend.
"""
import json
import math
import statistics
import sys
from xml.sax.saxutils import escape

COLOURS = {"plain receiver": "#999999", "penstock": "#0072B2", "s3dlio": "#D55E00",
           "obstore": "#009E73", "s3torchconnector": "#CC79A7", "boto3": "#E69F00",
           "opendal": "#56B4E9", "tensorstore": "#8F7700"}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1180, 460, 70, 60, 110


def cpu_per_gb(side):
    return statistics.median(run["cpu"] for run in side["runs"]) / (side["runs"][0]["bytes"] / 1e9)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py OUT.svg RACE.json")
    with open(sys.argv[2], encoding="utf-8") as file:
        rows = json.load(file)
    bars = [[(side["name"], cpu_per_gb(side)) for side in row["sides"] if side["runs"]]
            for row in rows]
    if not any(bars):
        sys.exit("plot: no side has finished any kind of work")
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
    for i, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + i * 135
        out.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{colour}"/>'
                   f'<text x="{x + 15}" y="44">{escape(name)}</text>')
    for power in range(low, high + 1):
        y = y_of(10 ** power)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10 ** power:g}</text>')
    group = (WIDTH - LEFT - 10) / len(rows)
    for i, (row, found) in enumerate(zip(rows, bars)):
        width = (group - 14) / max(1, len(COLOURS))
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

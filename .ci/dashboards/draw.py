#!/usr/bin/env python3
"""Draws a picture of each dashboard for a person to look at, from what its queries give: the load of
live.py runs for a while, then each panel is drawn where it stands in its grid. Not Grafana: colours
and axes are plain, and thresholds are left out. Needs Chromium.

Usage: draw.py FOLDER PICTURES [SECONDS]
FOLDER has the programs relay and loadgen; the pictures go into PICTURES.
"""

import html
import json
import math
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import live

COLUMN, LINE = 66, 30
COLOURS = ["#3274d9", "#56a64b", "#e0b400", "#e02f44", "#8f3bb8", "#ff780a", "#37872d", "#1250b0",
           "#ad0317", "#5794f2", "#73bf69", "#b877d9"]
STYLE = """
body { margin: 0; background: #f4f5f5; font: 12px sans-serif; color: #24292e; position: relative; }
.panel { position: absolute; background: #fff; border: 1px solid #dcdde0; box-sizing: border-box;
  overflow: hidden; padding: 4px 8px; }
.row { position: absolute; font-weight: bold; font-size: 14px; padding: 6px 8px; }
h3 { margin: 0 0 2px; font-size: 13px; font-weight: 600; }
.stat { font-size: 30px; color: #37872d; text-align: center; line-height: 60px; }
.legend span { margin-right: 10px; white-space: nowrap; }
.legend { line-height: 15px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 2px 6px;
  border-bottom: 1px solid #e6e7e9; white-space: nowrap; }
.none { color: #b00; text-align: center; padding-top: 40px; }
"""


def say(value, unit):
    if value is None or math.isnan(value):
        return "-"
    if unit in ("dateTimeAsIso", "dateTimeFromNow"):
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(value / 1000))
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if abs(value) * factor >= 1 or factor == 1e6 or value == 0:
                return f"{value * factor:.3g} {name}"
    names = {"bps": "bit/s", "Bps": "B/s", "bytes": "B", "decbytes": "B"}
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and (unit in names or value >= 1e4):
            return f"{value / size:.3g} {prefix}{names.get(unit, '')}"
    return f"{value:.4g} {names.get(unit, '')}".strip()


def ask(prometheus, target, begun, now):
    """The series of a target: labels and points."""
    expr = live.plain(target["expr"])
    if target.get("instant"):
        path, more = "query", {"time": now}
    else:
        path, more = "query_range", {"start": begun, "end": now, "step": "2"}
    url = f"{prometheus.url}/api/v1/{path}?" + urllib.parse.urlencode({"query": expr, **more})
    result = json.loads(live.get(url))["data"]["result"]
    return [(one["metric"], one.get("values") or [one["value"]]) for one in result]


def named(target, labels):
    text = target.get("legendFormat") or ""
    if text in ("", "__auto"):
        return ", ".join(f"{key}={value}" for key, value in labels.items() if key != "__name__")
    for key in live.re.findall(r"{{\s*(\w+)\s*}}", text):
        text = live.re.sub(r"{{\s*" + key + r"\s*}}", labels.get(key, ""), text)
    return text


def chart(panel, series, unit, box):
    width, height, begun, now = box
    values = [float(v) for _, points in series for _, v in points if not math.isnan(float(v))]
    if not values:
        return '<p class="none">no data</p>'
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    stacked = custom.get("stacking", {}).get("mode", "none") != "none"
    low, high = min(0, min(values)), max(values)
    if stacked:
        sums = {}
        for _, points in series:
            for at, v in points:
                sums[at] = sums.get(at, 0) + float(v)
        high = max(sums.values())
    high = high if high > low else low + 1
    marks = ""
    for part in (0, 0.5, 1):
        y = height - 4 - part * (height - 12)
        text = html.escape(say(low + part * (high - low), unit))
        marks += f'<line x1="78" x2="{width}" y1="{y}" y2="{y}" stroke="#e6e7e9"/>'
        marks += f'<text x="74" y="{y + 4}" text-anchor="end" font-size="11">{text}</text>'
    below, lines, legend = {}, "", ""
    for number, (name, points) in enumerate(series):
        colour, runs, run = COLOURS[number % len(COLOURS)], [], []
        for at, v in points:
            v = float(v)
            if math.isnan(v):
                runs.append(run)
                run = []
                continue
            if stacked:
                v = below[at] = below.get(at, 0) + v
            x = 78 + (at - begun) / max(1, now - begun) * (width - 80)
            run.append(f"{x:.0f},{height - 4 - (v - low) / (high - low) * (height - 12):.1f}")
        for run in [*runs, run]:
            if len(run) == 1:
                x, y = run[0].split(",")
                lines += f'<circle cx="{x}" cy="{y}" r="1.5" fill="{colour}"/>'
            lines += f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}"/>'
        if number < 12:
            legend += f'<span><b style="color:{colour}">—</b> {html.escape(name)}</span>'
    if len(series) > 12:
        legend += f"<span>and {len(series) - 12} more</span>"
    return f'<svg width="{width}" height="{height}">{marks}{lines}</svg><div class="legend">{legend}</div>'


def table(panel, rows, unit):
    hidden, names = {"__name__"}, {}
    for change in panel.get("transformations", []):
        hidden |= {key for key, yes in change["options"].get("excludeByName", {}).items() if yes}
        names.update(change["options"].get("renameByName", {}))
    columns = sorted({key for labels, _ in rows for key in labels} - hidden)
    head = "".join(f"<th>{html.escape(names.get(key, key))}</th>" for key in columns)
    head += f"<th>{html.escape(names.get('Value', 'Value'))}</th>" if "Value" not in hidden else ""
    body = ""
    for labels, points in rows[:20]:
        cells = "".join(f"<td>{html.escape(labels.get(key, ''))}</td>" for key in columns)
        if "Value" not in hidden:
            cells += f"<td>{html.escape(say(float(points[-1][1]), unit))}</td>"
        body += f"<tr>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>" if rows else '<p class="none">no data</p>'


def heat(series, box):
    width, height, begun, now = box
    bound = lambda labels: float(labels["le"].replace("+Inf", "inf"))
    series = sorted(series, key=lambda one: bound(one[0]))
    cells, before = {}, {}
    for row, (_, points) in enumerate(series):
        for at, v in points:
            cells[row, at] = max(0, float(v) - before.get(at, 0))
            before[at] = float(v)
    most = max(cells.values(), default=0) or 1
    size = (height - 8) / max(1, len(series))
    out = ""
    for (row, at), v in cells.items():
        if v > 0:
            x = 60 + (at - begun) / max(1, now - begun) * (width - 62)
            out += (f'<rect x="{x:.0f}" y="{height - 4 - (row + 1) * size:.1f}" width="5" '
                    f'height="{size:.1f}" fill="#e02f44" opacity="{0.1 + 0.9 * v / most:.2f}"/>')
    for row in range(0, len(series), 4):
        text = say(bound(series[row][0]), "s")
        out += f'<text x="56" y="{height - 4 - row * size:.0f}" text-anchor="end" font-size="11">{text}</text>'
    return f'<svg width="{width}" height="{height}">{out}</svg>'


def drawn(panel, prometheus, begun, now):
    place = panel["gridPos"]
    x, y = place["x"] * COLUMN, place["y"] * LINE
    width, height = place["w"] * COLUMN - 6, place["h"] * LINE - 6
    style = f"left:{x}px;top:{y}px;width:{width}px;height:{height}px"
    if panel["type"] == "row":
        return f'<div class="row" style="{style}">{html.escape(panel["title"])}</div>'
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    found = [(target, *one) for target in panel["targets"] for one in ask(prometheus, target, begun, now)]
    box = (width - 18, height - 70, begun, now)
    if panel["type"] == "table":
        inside = table(panel, [(labels, points) for _, labels, points in found], unit)
    elif panel["type"] == "stat":
        last = [float(points[-1][1]) for _, _, points in found]
        inside = f'<div class="stat">{html.escape(", ".join(say(v, unit) for v in last)) or "-"}</div>'
    elif panel["type"] == "heatmap":
        inside = heat([(labels, points) for _, labels, points in found], box)
    elif panel["type"] == "bargauge":
        rows = [({"name": named(t, labels)}, points) for t, labels, points in found]
        inside = table({}, rows[:14], unit)
    else:
        inside = chart(panel, [(named(t, labels), points) for t, labels, points in found], unit, box)
    title = html.escape(panel["title"])
    return f'<div class="panel" style="{style}"><h3>{title}</h3>{inside}</div>'


def main(programs, pictures, seconds):
    pictures.mkdir(parents=True, exist_ok=True)
    with live.loaded(programs) as (prometheus, _):
        time.sleep(seconds)
        now = time.time()
        begun = max(prometheus.begun, now - 300)
        for path in sorted(live.DASHBOARDS.glob("*.json")):
            panels = json.loads(path.read_text())["panels"]
            body = "".join(drawn(panel, prometheus, begun, now) for panel in panels)
            height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) * LINE + 10
            page = pictures / f"{path.stem}.html"
            page.write_text(f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{body}")
            picture = pictures / f"{path.stem}.png"
            subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 f"--window-size={24 * COLUMN + 4},{height}", f"--screenshot={picture}", page.as_uri()],
                check=True, capture_output=True,
            )
            print(picture)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]).resolve(), float((sys.argv + ["90"])[3]))

#!/usr/bin/env python3
"""Holds dashboards/ against its rules, without a server: what every dashboard must have so that it
can be used with any Prometheus and for any choice of nodes, and that every alert has a test and a
paragraph that says what to do. Before that a mistake of each kind is planted, which has to be
found. With a folder that holds Grafana's own types (.ci/install makes one), every dashboard is held
against them as well. What the queries give is live.py's business.

Usage: check.py [FOLDER]
"""

import copy
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "dashboards"
SELECTOR = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
# A name that is no function, label or keyword, but a metric's.
METRIC = re.compile(r"\b((?:relay|process|container|kube|scrape)_[a-z0-9_]+|up|ALERTS)\b(?!\s*\()")


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board):
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


# --- what is checked ---------------------------------------------------------------------------


def frame(board):
    if not board["uid"].startswith("relay-") or "relay" not in board["tags"]:
        yield "has no uid or tag of relay, by which dashboards link to each other"
    if board["schemaVersion"] < 39 or board["editable"] is not False:
        yield "is of an old schema, or may be edited in place and then lost"
    sources = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    if [source["name"] for source in sources] != ["datasource"]:
        yield "must have one variable for the data source, called datasource"
    for name in ("job", "instance"):
        found = [v for v in board["templating"]["list"] if v["name"] == name]
        if len(found) != 1:
            yield f"has no variable {name}"
            continue
        wanted = {"multi": True, "includeAll": True, "allValue": ".+", "refresh": 2}
        for key, value in wanted.items():
            if found[0].get(key) != value:
                yield f"variable {name}: {key} is {found[0].get(key)!r}, not {value!r}"


def words(board):
    titles = [panel["title"] for panel in panels(board)]
    for title in titles:
        if titles.count(title) > 1:
            yield f"two panels are called '{title}'"
    for panel in panels(board):
        for what, there in {
            "title": panel.get("title"),
            "description": panel.get("description", "").endswith("."),
            "unit": panel["fieldConfig"]["defaults"].get("unit"),
            "query": panel.get("targets"),
        }.items():
            if not there:
                yield f"panel '{panel['title']}' has no {what}"
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${datasource}":
                yield f"panel '{panel['title']}' asks a data source of its own"


def places(board):
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    taken = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        if at["x"] + at["w"] > 24:
            yield f"panel '{panel['title']}' leaves the grid"
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if (x, y) in taken:
                    yield f"panels '{panel['title']}' and '{taken[x, y]}' lie on each other"
                    return
                taken[x, y] = panel["title"]


def matchers(board):
    for title, expr in expressions(board):
        for name in METRIC.findall(SELECTOR.sub("", expr)):
            yield f"panel '{title}' takes {name} of all nodes of the world"
        for name, labels in SELECTOR.findall(expr):
            # What the kubelet tells has the kubelet's job; its pod is our node.
            wanted = ["pod"] if name.startswith(("container_", "kube_")) else ["job", "instance"]
            for label in wanted:
                variable = "instance" if label == "pod" else label
                # With `|` it also takes what has no such label.
                if not re.search(rf'\b{label}=~"\${variable}\|?"', labels):
                    yield f"panel '{title}' takes {name} whatever the variable {variable} says"


def rates(board):
    for title, expr in expressions(board):
        for interval in re.findall(r"\[([^\]]*)\]", expr):
            if interval != "$__rate_interval":
                yield f"panel '{title}' has the fixed interval {interval}"
        for name in re.findall(r"(?<!rate\()(?<!increase\()\b([a-z_]+_total)\{", expr):
            yield f"panel '{title}' shows the bare counter {name}"


CHECKS = [frame, words, places, matchers, rates]

MISTAKES = [
    (frame, lambda board: board["templating"]["list"].pop()),
    (words, lambda board: panels(board)[0].pop("description")),
    (places, lambda board: panels(board)[1]["gridPos"].update(x=0)),
    (matchers, lambda board: panels(board)[0]["targets"][0].update(expr="sum(up)")),
    (rates, lambda board: panels(board)[0]["targets"][0].update(
        expr='rate(relay_sends_total{job=~"$job", instance=~"$instance"}[5m])')),
]


def planted(board):
    for check, mistake in MISTAKES:
        bad = copy.deepcopy(board)
        mistake(bad)
        if not list(check(bad)):
            yield f"the check '{check.__name__}' does not find its planted mistake"


def alerts():
    """Every alert has a test, a paragraph, and words."""
    rules = (FOLDER / "rules.yml").read_text()
    tests = (FOLDER / "rules_test.yml").read_text()
    readme = (FOLDER / "README.md").read_text()
    blocks = re.split(r"\n +- (?=alert: |record: )", rules)[1:]
    headings = re.findall(r"^### (\w+)$", readme, re.MULTILINE)
    names = []
    for block in blocks:
        if not block.startswith("alert: "):
            continue
        name = block.split()[1]
        names.append(name)
        for needed in ("severity: ", "summary: ", f"runbook: dashboards/README.md#{name.lower()}\n"):
            if needed not in block + "\n":
                yield f"alert {name} lacks {needed.strip()}"
        if f"alertname: {name}\n" not in tests:
            yield f"alert {name} has no test"
    if sorted(names) != sorted(headings):
        yield f"README.md tells of {sorted(set(headings) ^ set(names))}, which is no alert or lacks"


def promtool(*arguments):
    ran = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True)
    if ran.returncode != 0:
        yield f"promtool {' '.join(arguments)}: {ran.stdout}{ran.stderr}"


def typed(boards, folder):
    """What Grafana's types say of dashboards; texts of JSON by their names."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "node_modules").symlink_to(Path(folder).resolve() / "node_modules")
        (scratch / "board.ts").write_text((HERE / "types/board.ts").read_text())
        text = 'import type { Board } from "./board.ts";\n'
        for name, board in boards.items():
            text += f"export const {name.removesuffix('.json')}: Board = {board};\n"
        (scratch / "boards.ts").write_text(text)
        ran = subprocess.run(
            ["node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck",
             "--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022",
             "--allowImportingTsExtensions", "boards.ts"],
            cwd=scratch, capture_output=True, text=True,
        )
        return ran.stdout.splitlines() or ([ran.stderr] if ran.returncode else [])


def types(boards, folder):
    yield from typed(boards, folder)
    first = next(iter(boards.values()))
    for right, bad in {'"panels": [': '"panelz": [', '"h": 8': '"h": "8"'}.items():
        if not typed({"bad.json": first.replace(right, bad, 1)}, folder):
            yield f"Grafana's types do not find {bad}"


def main(arguments):
    boards = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    wrong = [*planted(boards["overview.json"]), *alerts()]
    wrong += promtool("check", "rules", "rules.yml")
    wrong += promtool("test", "rules", "rules_test.yml")
    wrong += promtool("check", "config", "prometheus.yml")
    for name, board in boards.items():
        for check in CHECKS:
            wrong += [f"{name}: {sentence}" for sentence in check(board)]
    for folder in arguments:
        wrong += types({path.name: path.read_text() for path in FOLDER.glob("*.json")}, folder)
    uids = [board["uid"] for board in boards.values()]
    if len(uids) != len(set(uids)):
        wrong.append("two dashboards have one uid")
    for sentence in wrong:
        print(f"dashboards: {sentence}", file=sys.stderr)
    count = sum(len(panels(board)) for board in boards.values())
    if not wrong:
        print(f"dashboards: {len(boards)} dashboards, {count} panels: good")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

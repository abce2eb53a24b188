#!/usr/bin/env python3
"""Asks a real Prometheus every question of dashboards/: each panel's queries, each recording rule,
and each alert without its threshold. It scrapes three relays that are one cluster, under load:
every transport, slow players, streams of other nodes, a push to another server, back ends that
answer and that do not, people who come to the wrong door or show no permit, and a node that hangs,
is killed and comes back. A query without an answer is a mistake, unless what it asks for is only to be
had in Kubernetes (ELSEWHERE). Since a counter that never counted answers 0, what was done to the
relays has to be seen in theirs as well (DONE).

Usage: live.py FOLDER, in which the programs relay and loadgen are
"""

import contextlib
import http.server
import json
import math
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
# How long every question may go on being asked; a machine that is busy needs longer to say all.
PATIENCE_SECONDS = 180
# Names that these relays do not have: those that the kubelet and kube-state-metrics tell.
ELSEWHERE = {
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_memory_working_set_bytes",
    "container_spec_memory_limit_bytes",
    "kube_pod_container_status_restarts_total",
}
# What has to be more than 0 at some time: proof that the load is what it says.
DONE = [
    *(f'sum(relay_connections{{role="player", transport="{transport}"}})'
      for transport in ("rtmp", "rtmps", "rtmpt", "rtmpts", "flv", "wsflv")),
    *(f'sum(relay_handshakes_total{{result="ok", transport="{transport}"}})'
      for transport in ("rtmp", "rtmps", "rtmpt", "rtmpts")),
    'sum(relay_handshakes_total{result!="ok"})',
    'sum(relay_tls_handshakes_total{result=~"full_.*"})',
    'sum(relay_refused_total{reason="signature"})',
    'sum(relay_refused_total{reason="unknown_stream"})',
    'sum(relay_players_dropped_total{reason="slow"})',
    'sum(relay_player_jumps_total)',
    'sum(relay_messages_dropped_total{reason="lag"})',
    'sum(relay_players{source="remote"})',
    'sum(relay_streams{source="remote"})',
    'sum(relay_join_time_seconds_count{source="remote"})',
    'sum(relay_fanout_lag_seconds_count{hop="link"})',
    'sum(relay_fanout_lag_seconds_count{hop="local"})',
    'sum(relay_hop_latency_seconds_count)',
    'sum(relay_link_peer_bytes_total{way="in"})',
    'sum(relay_link_peer_bytes_total{way="out"})',
    'sum(relay_outside_up)',
    'sum(relay_hook_requests_total{result="allowed"})',
    'sum(relay_hook_requests_total{result="unreachable"})',
    'sum(relay_hook_breaker_open)',
    # The node that was killed, as the others saw it.
    'sum(relay_link_up == bool 0)',
    'sum(relay_link_refused_total{reason="silence"})',
    'sum(changes(relay_cluster_nodes[10m]))',
]

SETTINGS = """
[apps."live"]
hooks = "srs"
on_publish = "http://127.0.0.1:{back_end}/"
on_play = "http://127.0.0.1:{back_end}/"

[apps."broken"]
hooks = "srs"
on_play = "http://127.0.0.1:{nobody}/"
hooks_fail = "open"

[apps."locked"]
play = ["signed {folder}/url.secret"]

[apps."pushed"]
push = ["rtmp://{outside}/arrived/{{name}}"]

[limits]
player_lag_max = "2s"
send_stall_max = "4s"

[[tls.certificates]]
certificate = "{folder}/tls.crt"
key = "{folder}/tls.key"
"""

PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: relay
    static_configs:
      - targets: ["{first}"]
        labels: {{instance: relay-0}}
      - targets: ["{second}"]
        labels: {{instance: relay-1}}
      - targets: ["{third}"]
        labels: {{instance: relay-2}}
  - job_name: relay-streams
    metrics_path: /metrics/streams
    static_configs:
      - targets: ["{first}"]
        labels: {{instance: relay-0}}
      - targets: ["{second}"]
        labels: {{instance: relay-1}}
      - targets: ["{third}"]
        labels: {{instance: relay-2}}
    metric_relabel_configs:
      - {{target_label: job, replacement: relay}}
"""


class BackEnd(http.server.BaseHTTPRequestHandler):
    """Lets everybody in, as SRS's callbacks say it."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"0")

    def log_message(self, *arguments):
        pass


class Relay:
    def __init__(self, stack, folder, program, name, peer, *arguments, http="127.0.0.1:0"):
        self.again = lambda: Relay(stack, folder, program, name, peer, *arguments, http=self.http)
        self.said = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        command = [program, "--node", name, "--rtmp", "127.0.0.1:0", "--http", http]
        if peer:
            command += ["--link", "127.0.0.1:0", "--peers", peer]
        with self.said.open("w") as out, self.log.open("w") as err:
            self.process = subprocess.Popen([*command, *arguments], stdout=out, stderr=err, env={
                "RELAY_CLUSTER__SECRET_FILE": str(folder / "cluster.secret"),
                # So that what goes between them goes between zones.
                "RELAY_NODE__ZONE": f"zone-of-{name}",
                "RELAY_DRAIN__WINDOW": "0s",
            })
        stack.callback(end, self.process)
        wait_for(f"{name} to start", lambda: self.address("http"), self.process)
        self.rtmp, self.http = self.address("rtmp"), self.address("http")
        link = re.search(r"^link +(\S+)", self.said.read_text(), re.MULTILINE)
        self.link = link and link[1]
        self.metrics_url = f"http://{self.http}/metrics"

    def address(self, what):
        found = re.search(rf"{what}://(127\.0\.0\.1:\d+)/", self.said.read_text())
        return found and found[1]


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(what, ready, process):
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"dashboards: waited in vain for {what}")
        time.sleep(0.1)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wrong_doors(relay, done):
    """Once a second: nonsense, a page that is not there, a player without a permit, a health check
    that says nothing."""
    doors = (b"\x06" + bytes(1536), b"GET /live/nothing.flv HTTP/1.1\r\nHost: x\r\n\r\n",
             b"GET /locked/x.flv HTTP/1.1\r\nHost: x\r\n\r\n", b"")
    host, port = relay.rtmp.split(":")
    while not done.wait(1):
        for bytes_ in doors:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 2) as client:
                client.settimeout(1)
                client.sendall(bytes_)
                if not bytes_.startswith(b"GET"):
                    # Who asks for a page and leaves at once may be gone before he is answered.
                    client.shutdown(socket.SHUT_WR)
                client.recv(1024)


def ill_now_and_then(relay, done):
    """Stops a node until the others take it for dead, then kills it and lets it come back, again
    and again."""
    while not done.wait(8):
        relay.process.send_signal(signal.SIGSTOP)
        done.wait(6)
        relay.process.send_signal(signal.SIGCONT)
        if done.wait(6):
            return
        relay.process.kill()
        relay.process.wait()
        if done.wait(6):
            return
        relay = relay.again()


def loads(first, second, folder):
    """What loadgen is told, all at once."""
    players = ["--cores", "1", "--bitrate", "500k", "--duration", f"{2 * PATIENCE_SECONDS}s", "-q"]
    certificate = ["--ca-file", str(folder / "tls.crt")]
    port = first.rtmp.split(":")[1]
    return [
        ["run", "--target", f"rtmp://{first.rtmp}/live/plain", "--streams", "2", "--players", "20"],
        ["churn", "--target", f"rtmps://localhost:{port}/live/safe", "--players", "6", *certificate],
        ["run", "--target", f"rtmpt://{first.rtmp}/live/tunnel", "--players", "3"],
        ["run", "--target", f"rtmpts://localhost:{port}/live/both", "--players", "2", *certificate],
        ["run", "--target", f"rtmp://{first.rtmp}/live/page", "--players", "2",
         "--play-target", f"http://{first.rtmp}/live/page.flv"],
        ["run", "--target", f"rtmp://{first.rtmp}/live/socket", "--players", "2",
         "--play-target", f"ws://{first.rtmp}/live/socket.flv"],
        ["run", "--target", f"rtmp://{first.rtmp}/pushed/x", "--players", "1"],
        ["slow", "--target", f"rtmp://{first.rtmp}/live/slow", "--players", "6", "--stopped", "50%"],
        ["run", "--target", f"rtmp://{first.rtmp}/broken/x", "--players", "12"],
        ["churn", "--target", f"rtmp://{second.rtmp}/live/other", "--players", "6"],
        ["run", "--target", f"rtmp://{second.rtmp}/live/far", "--players", "4",
         "--play-target", f"rtmp://{first.rtmp}/live/far"],
        ["churn", "--target", f"rtmp://{first.rtmp}/live/near", "--players", "4",
         "--play-target", f"rtmp://{second.rtmp}/live/near"],
    ], players


def keep_loading(command, log, done):
    """A load that gives up, as on a machine that is too busy for it, begins again."""
    while not done.is_set():
        with log.open("a") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
        while process.poll() is None and not done.wait(0.5):
            pass
        end(process)
        done.wait(1)


class Prometheus:
    def __init__(self, stack, folder, first, second, third):
        settings = folder / "prometheus.yml"
        rules = DASHBOARDS / "rules.yml"
        settings.write_text(
            PROMETHEUS.format(rules=rules, first=first.http, second=second.http, third=third.http)
        )
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with (folder / "prometheus.log").open("w") as log:
            process = subprocess.Popen(
                ["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdout=log, stderr=log,
            )
        stack.callback(end, process)
        wait_for("Prometheus", self.ready, process)
        self.begun = time.time()

    def ready(self):
        with contextlib.suppress(OSError):
            return get(f"{self.url}/-/ready")

    def ask(self, expr, instant):
        """The values of a query; its mistake as text."""
        if instant:
            path, extra = "query", {}
        else:
            path, extra = "query_range", {"start": self.begun, "end": time.time(), "step": "1"}
        url = f"{self.url}/api/v1/{path}?" + urllib.parse.urlencode({"query": expr, **extra})
        try:
            series = json.loads(get(url))["data"]["result"]
        except urllib.error.HTTPError as error:
            return json.loads(error.read())["error"]
        except OSError:
            # A machine that is too busy: it is asked again.
            return []
        values = [one.get("values") or [one["value"]] for one in series]
        return [float(value) for points in values for _, value in points]


def questions():
    """Where each query stands, its text, and whether it is about a moment."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                where = f"{path.name}, panel '{panel['title']}'"
                yield where, target["expr"], target.get("instant", False)
        for annotation in board["annotations"]["list"]:
            # Whatever it marks may not have happened.
            yield f"{path.name}, '{annotation['name']}'", f"{annotation['expr']} or vector(0)", False
    rules = (DASHBOARDS / "rules.yml").read_text()
    for block in re.split(r"\n +- (?=alert: |record: )", rules)[1:]:
        kind, name = block.split()[:2]
        inside = re.search(r"expr: (?:\|\n((?: {10,}.*\n?)+)|(.*))", block)
        expr = inside[1] or inside[2]
        if kind == "alert:":
            # Without its threshold: with `bool` a comparison answers whether or not it holds.
            expr = re.sub(r"(\s(?:==|!=|<=|>=|<|>))\s(?!bool)", r"\1 bool ", expr)
        yield f"rules.yml, {name}", expr, True


def plain(expr):
    for variable, value in {"$job": ".+", "$instance": ".+", "$__rate_interval": "10s"}.items():
        expr = expr.replace(variable, value)
    return re.sub(r"\[\d+m\]", "[20s]", expr)


@contextlib.contextmanager
def loaded(programs):
    """Three relays of one cluster under load and a Prometheus that scrapes them."""
    relay, loadgen = (str(Path(programs).resolve() / name) for name in ("relay", "loadgen"))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
            check=True, capture_output=True,
        )
        back_end = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BackEnd)
        threading.Thread(target=back_end.serve_forever, daemon=True).start()
        stack.callback(back_end.shutdown)
        settings = folder / "relay.toml"
        (folder / "cluster.secret").write_text("what these three relays know")
        (folder / "url.secret").write_text("what-URLs-are-signed-with")
        # Nobody is there; the others find the second one, and by it each other.
        nobody = f"127.0.0.1:{free_port()}"
        second = Relay(stack, folder, relay, "relay-1", nobody, "--reactor", "mio")
        # One that is none of them: a push among them would lead back.
        outside = Relay(stack, folder, relay, "outside", None)
        settings.write_text(SETTINGS.format(
            folder=folder, back_end=back_end.server_address[1], nobody=free_port(),
            outside=outside.rtmp,
        ))
        first = Relay(stack, folder, relay, "relay-0", second.link, "--config", str(settings))
        peers = f"{first.link},{second.link}"
        third = Relay(stack, folder, relay, "relay-2", peers)
        prometheus = Prometheus(stack, folder, first, second, third)
        done = threading.Event()
        stack.callback(done.set)
        threading.Thread(target=wrong_doors, args=(first, done), daemon=True).start()
        threading.Thread(target=ill_now_and_then, args=(third, done), daemon=True).start()
        commands, more = loads(first, second, folder)
        for number, command in enumerate(commands):
            told = ([loadgen, *command, *more], folder / f"load-{number}.log", done)
            load = threading.Thread(target=keep_loading, args=told)
            load.start()
            stack.callback(load.join)
            stack.callback(done.set)
        yield prometheus, first
        for log in sorted(folder.glob("load-*.log")):
            # A load that failed explains what is missing.
            if said := log.read_text().strip():
                print(f"{log.stem}: {said[-500:]}", file=sys.stderr)


def main(programs):
    with loaded(programs) as (prometheus, relay):
        wrong = list(judge(prometheus, relay))
    for sentence in wrong:
        print(f"dashboards: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def judge(prometheus, relay):
    page = get(relay.metrics_url)
    ran = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    if ran.returncode != 0 or ran.stderr:
        yield f"promtool check metrics: {ran.stdout}{ran.stderr}"
    absent = ELSEWHERE - families(page)
    # A query that no Prometheus answers has to be found.
    for bad in ("relay_no_such_thing", "sum(relay_streams", 'relay_players{source="nowhere"}'):
        if is_answer(prometheus.ask(bad, True)):
            yield f"the query {bad} was answered"
    passed, failed = [], list(questions())
    failed += [(f"DONE, {expr}", expr, False) for expr in DONE]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while failed and time.monotonic() < deadline:
        time.sleep(5)
        asked, failed, waiting = failed, [], False
        for where, expr, instant in asked:
            answer = prometheus.ask(plain(expr), instant)
            if is_answer(answer) and (not where.startswith("DONE") or max(answer) > 0):
                passed.append(where)
                continue
            failed.append((where, expr, instant))
            waiting = waiting or not (names(expr) & absent or isinstance(answer, str))
        if not waiting:
            break
    for where, expr, instant in failed:
        answer = prometheus.ask(plain(expr), instant)
        if isinstance(answer, str):
            yield f"{where}: {answer}: {plain(expr)}"
        elif not names(expr) & absent:
            yield f"{where}: no data: {plain(expr)}"
    exposed = families(get(relay.metrics_url) + get(f"{relay.metrics_url}/streams"))
    for where, expr, _ in questions():
        # One side of an `or` may hide that the other knows no such family.
        for name in re.findall(r"(?<![:\w])relay_\w+(?![:\w])", re.sub('"[^"]*"', "", expr)):
            if not {name, re.sub("_(bucket|sum|count)$", "", name)} & exposed:
                yield f"{where}: the relay has no {name}"
    print(f"dashboards: {len(passed)} of {len(passed) + len(failed)} queries answered; "
          f"{len(absent)} families are not to be had here")


def families(page):
    return set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))


def names(expr):
    """The families that a query may be about."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\w+", expr)}


def is_answer(answer):
    return not isinstance(answer, str) and any(not math.isnan(value) for value in answer)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))

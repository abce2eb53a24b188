#!/usr/bin/env python3
"""Holds k8s/ against the schemas of Kubernetes, against itself, and against the program.

Builds every overlay, and the base with each component, with `kubectl kustomize`; then everything
that one of them says is compared: with the schemas of two versions of Kubernetes, strictly; with
what refers to it; and with the relay itself, which is asked whether it takes its settings and has
the paths that are probed and scraped. Before that a mistake of each kind is planted, which has to
be found. Speaks to no cluster.

Usage: check.py [--write] PROGRAM
"""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
RULES = ROOT / "dashboards/rules.yml"
RULES_COPY = K8S / "components/prometheus-rules/prometheusrule.yaml"
# The oldest and the newest version that the manifests are for.
VERSIONS = ["1.32", "1.37"]
# Kinds of the Prometheus operator; its schemas are not Kubernetes' own.
FOREIGN = {"PodMonitor", "PrometheusRule"}
# Between the end of the drain window and the kubelet's SIGKILL.
MARGIN_SECONDS = 15
MIB = 1 << 20


# --- what is checked ---------------------------------------------------------------------------


def schemas(docs):
    for doc in docs:
        if doc["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(doc, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                yield f"{name_of(doc)} in {version}: {where}: {error.message}"


def one_of_each(docs):
    seen = set()
    for doc in docs:
        key = (doc["kind"], doc["metadata"].get("namespace"), doc["metadata"]["name"])
        if key in seen:
            yield f"{name_of(doc)} is there twice"
        seen.add(key)
    namespaces = {doc["metadata"]["name"] for doc in docs if doc["kind"] == "Namespace"}
    for doc in docs:
        if doc["kind"] != "Namespace" and doc["metadata"].get("namespace") not in namespaces:
            yield f"{name_of(doc)} is in a namespace that is not there"


def selectors(docs):
    """Whatever selects pods finds those of the StatefulSet."""
    labels = pods(docs)["metadata"]["labels"]
    for doc in docs:
        spec = doc.get("spec", {})
        chosen = {
            "Service": lambda: [spec["selector"]],
            "StatefulSet": lambda: [spec["selector"]["matchLabels"]]
            + [
                constraint["labelSelector"]["matchLabels"]
                for constraint in spec["template"]["spec"].get("topologySpreadConstraints", [])
            ],
            "PodDisruptionBudget": lambda: [spec["selector"]["matchLabels"]],
            "PodMonitor": lambda: [spec["selector"]["matchLabels"]],
            "NetworkPolicy": lambda: [spec["podSelector"]["matchLabels"]]
            + [
                peer["podSelector"]["matchLabels"]
                for rule in spec["ingress"]
                for peer in rule.get("from", [])
                if "podSelector" in peer
            ],
        }.get(doc["kind"], lambda: [])
        for selector in chosen():
            if not selector or not selector.items() <= labels.items():
                yield f"{name_of(doc)} selects {selector}, but the pods are {labels}"
    for doc in docs:
        if doc["kind"] == "Job":
            own = doc["spec"]["template"]["metadata"]["labels"]
            if labels.items() <= own.items():
                yield f"{name_of(doc)} would be selected as a relay"
    services = {doc["metadata"]["name"]: doc["spec"] for doc in docs if doc["kind"] == "Service"}
    headless = services.get(find(docs, "StatefulSet")["spec"]["serviceName"], {})
    if headless.get("clusterIP") != "None" or not headless.get("publishNotReadyAddresses"):
        yield "the StatefulSet's service is not headless, or hides pods that are not ready"


def ports(docs):
    """Every port is named, used, and the one that the program listens on."""
    container = relay(docs)
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"rtmp": 1935, "http": 8935}
    if "RELAY_CLUSTER__PEERS" in environment(container):
        expected["link"] = 11935
    if named != expected:
        yield f"the container's ports are {named}, those of the program {expected}"
    used = set()
    for doc in docs:
        spec = doc.get("spec", {})
        if doc["kind"] == "Service":
            used |= {port["targetPort"] for port in spec["ports"]}
        elif doc["kind"] == "NetworkPolicy":
            allowed = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            used |= allowed
            if allowed != set(named):
                yield f"{name_of(doc)} lets in to {sorted(allowed)} of {sorted(named)}"
        elif doc["kind"] == "PodMonitor":
            used |= {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
    for probe in probes(container).values():
        used.add(probe["httpGet"]["port"])
    for port in used - set(named):
        yield f"there is no port {port}"
    for port in set(named) - used:
        yield f"nobody uses port {port}"


def endings(docs):
    """The grace period holds the sleep, the drain window and a margin."""
    spec = pods(docs)["spec"]
    sleep = relay(docs)["lifecycle"]["preStop"]["sleep"]["seconds"]
    window = seconds(settings_of(docs)["drain"]["window"])
    grace = spec["terminationGracePeriodSeconds"]
    if grace < sleep + window + MARGIN_SECONDS:
        yield f"the grace period is {grace} s, for {sleep} s + {window:g} s + {MARGIN_SECONDS} s"


def disruptions(docs):
    stateful = find(docs, "StatefulSet")["spec"]
    budget = find(docs, "PodDisruptionBudget")
    scaler = find(docs, "HorizontalPodAutoscaler")
    replicas = scaler["spec"]["minReplicas"] if scaler else stateful["replicas"]
    if scaler and "replicas" in stateful:
        yield "both the autoscaler and the StatefulSet set the number of replicas"
    if budget is None and replicas > 1:
        yield f"there are {replicas} replicas and no disruption budget"
    if budget is not None and not 0 < budget["spec"]["maxUnavailable"] < replicas:
        yield f"the budget allows {budget['spec']['maxUnavailable']} of {replicas} to be away"


def images(docs):
    """One version everywhere: that of the program."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    version = manifest["workspace"]["package"]["version"]
    for doc in docs:
        for container in pod_spec(doc).get("containers", []):
            if not container["image"].endswith(f":{version}"):
                yield f"{name_of(doc)} runs {container['image']}, but this is version {version}"


def restricted(docs):
    """What the policy `restricted` asks for, and what the relay needs no more than."""
    namespace = find(docs, "Namespace")["metadata"]["labels"]
    enforced = namespace["pod-security.kubernetes.io/enforce"]
    for doc in docs:
        spec = pod_spec(doc)
        if not spec:
            continue
        of = spec["securityContext"]
        if spec.get("hostNetwork") and enforced == "privileged":
            continue
        if enforced != "restricted":
            yield f"the namespace enforces {enforced} without need"
        if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
            yield f"{name_of(doc)} shares what is the host's"
        if not of.get("runAsNonRoot") or not of.get("runAsUser"):
            yield f"{name_of(doc)} may run as root"
        if of["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost"):
            yield f"{name_of(doc)} runs without a seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name_of(doc)} gets a token that it does not need"
        for container in spec["containers"]:
            has = container["securityContext"]
            if has.get("allowPrivilegeEscalation") is not False or has.get("privileged"):
                yield f"{name_of(doc)} may gain privileges"
            if not has.get("readOnlyRootFilesystem"):
                yield f"{name_of(doc)} may write to its image"
            if has["capabilities"] != {"drop": ["ALL"]}:
                yield f"{name_of(doc)} keeps capabilities"


def sources(docs):
    """Volumes are used, ConfigMaps are there, Secrets are those that the README tells of."""
    readme = (K8S / "README.md").read_text()
    maps = {doc["metadata"]["name"] for doc in docs if doc["kind"] == "ConfigMap"}
    for doc in docs:
        spec = pod_spec(doc)
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounts = [
            mount["name"]
            for container in spec.get("containers", [])
            for mount in container.get("volumeMounts", [])
        ]
        if sorted(mounts) != sorted(volumes):
            yield f"{name_of(doc)} has the volumes {sorted(volumes)} and mounts {sorted(mounts)}"
        for volume in volumes.values():
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name_of(doc)}: no ConfigMap {volume['configMap']['name']}"
            secret = volume.get("secret", {}).get("secretName")
            if secret and not re.search(rf"create secret \S+ {re.escape(secret)} ", readme):
                yield f"{name_of(doc)}: k8s/README.md does not say how to make Secret {secret}"


def memory(docs):
    """The sum in the README: everything at its limit at once still fits."""
    limits = settings_of(docs)["limits"]
    names = ("log_bytes_total", "connection_bytes_total", "tunnel_bytes_total")
    held = 16 * MIB + sum(bytes_of(limits[name]) for name in names)
    sockets = 4 * 1024 * int(limits["connections_max"]) + 100 * 1024 * int(limits["players_max"])
    allowed = bytes_of(relay(docs)["resources"]["limits"]["memory"] + "B")
    if held + sockets > allowed:
        yield f"the limits allow {(held + sockets) // MIB} MiB, the container {allowed // MIB} MiB"
    # More than that, and the relay does not start.
    if held > allowed - allowed // 4:
        yield f"the totals are {held // MIB} MiB of the container's {allowed // MIB} MiB"


def whole_processors(docs):
    """A fraction of a processor would throttle a worker in mid-turn; equal amounts are Guaranteed."""
    if find(docs, "StatefulSet")["spec"].get("replicas") == 1:
        return
    resources = relay(docs)["resources"]
    if not str(resources["limits"]["cpu"]).isdigit():
        yield f"{resources['limits']['cpu']} processors are no whole number"
    if find(docs, "Namespace")["metadata"]["name"] == "relay":
        if resources["limits"] != resources["requests"]:
            yield "requests and limits differ, so the pod is not Guaranteed"


def foreign(docs):
    """The little that can be said of the operator's kinds without their schemas."""
    for doc in docs:
        if doc["kind"] == "PodMonitor":
            for endpoint in doc["spec"]["podMetricsEndpoints"]:
                for name in ("interval", "scrapeTimeout"):
                    if not re.fullmatch(r"\d+(ms|s|m|h)", endpoint[name]):
                        yield f"{name_of(doc)}: {name} {endpoint[name]!r} is no duration"
        if doc["kind"] == "PrometheusRule":
            if doc["spec"] != yaml.safe_load(RULES.read_text()):
                yield f"{name_of(doc)} is not dashboards/rules.yml: run .ci/k8s/check.py --write"


CHECKS = [
    schemas,
    one_of_each,
    selectors,
    ports,
    endings,
    disruptions,
    images,
    restricted,
    sources,
    memory,
    whole_processors,
    foreign,
]


def profile(text):
    """The seccomp profile: a closed list with the calls of io_uring and none that break out."""
    listed = json.loads(text)
    if listed["defaultAction"] != "SCMP_ACT_ERRNO" or listed["defaultErrnoRet"] != 38:
        yield "what the profile does not list must fail with ENOSYS"
    names = []
    for entry in listed["syscalls"]:
        if set(entry) - {"names", "action", "args"} or entry["action"] != "SCMP_ACT_ALLOW":
            yield f"the profile has an entry that not every runtime reads: {entry['names'][:3]}"
        names += entry["names"]
    if len(names) != len(set(names)):
        yield "the profile lists a call twice"
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_pwait"):
        if name not in names:
            yield f"the profile lacks {name}"
    for name in ("ptrace", "mount", "bpf", "unshare", "setns", "keyctl", "perf_event_open", "clone3"):
        if name in names:
            yield f"the profile allows {name}"


# --- mistakes that have to be found ------------------------------------------------------------


def mistype(docs):
    stateful = find(docs, "StatefulSet")["spec"]
    stateful["podManagmentPolicy"] = stateful.pop("podManagementPolicy")


MISTAKES = [
    (schemas, mistype),
    (one_of_each, lambda docs: docs.append(copy.deepcopy(docs[0]))),
    (selectors, lambda docs: find(docs, "PodDisruptionBudget")["spec"]["selector"].update(
        matchLabels={"app": "relay"})),
    (ports, lambda docs: find(docs, "Service")["spec"]["ports"][0].update(targetPort="rtpm")),
    (endings, lambda docs: pods(docs)["spec"].update(terminationGracePeriodSeconds=54)),
    (disruptions, lambda docs: find(docs, "PodDisruptionBudget")["spec"].update(maxUnavailable=3)),
    (images, lambda docs: relay(docs).update(image="relay:latest")),
    (restricted, lambda docs: relay(docs)["securityContext"].pop("capabilities") and relay(docs)[
        "securityContext"].update(capabilities={})),
    (sources, lambda docs: pods(docs)["spec"]["volumes"][1]["secret"].update(secretName="rely")),
    (memory, lambda docs: relay(docs)["resources"]["limits"].update(memory="2Gi")),
    (whole_processors, lambda docs: relay(docs)["resources"]["limits"].update(cpu="1500m")),
    (foreign, lambda docs: docs.append(
        {"kind": "PrometheusRule", "metadata": {"name": "relay"}, "spec": {}})),
]


def planted(base):
    """Every check finds the mistake that is made for it, and finds nothing without."""
    for check, mistake in MISTAKES:
        if list(check(base)):
            continue  # told of with the base itself
        docs = copy.deepcopy(base)
        mistake(docs)
        if not list(check(docs)):
            yield f"the check '{check.__name__}' does not find its planted mistake"
    for check in CHECKS:
        if check not in [planted_for for planted_for, _ in MISTAKES]:
            yield f"no mistake is planted for the check '{check.__name__}'"
    good = (K8S / "seccomp/relay.json").read_text()
    for bad in (good.replace('"io_uring_setup"', '"ptrace"'), good.replace("38", "1")):
        if not list(profile(bad)):
            yield "the check of the seccomp profile does not find its planted mistake"


# --- what the program says ---------------------------------------------------------------------


class Program:
    """The relay, asked about what the manifests give it."""

    def __init__(self, path):
        self.path = path
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.effective = {}
        made = subprocess.run([path, "key", "loadtest*"], capture_output=True, text=True, check=True)
        line = re.search(r"^line: (.*)$", made.stdout, re.MULTILINE)[1]
        self.secrets = {
            "stream-keys": line + "\n",
            "api-tokens": os.urandom(16).hex() + "\n",
            "cluster": os.urandom(32).hex() + "\n",
        }

    def settings(self, docs):
        """What is in force in the pod; the program's own sentence when it refuses."""
        container = relay(docs)
        home = Path(tempfile.mkdtemp(dir=self.home))
        volumes = {volume["name"]: volume for volume in pods(docs)["spec"]["volumes"]}
        for mount in container["volumeMounts"]:
            inside = home / mount["mountPath"].lstrip("/")
            inside.mkdir(parents=True)
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                files = named(docs, "ConfigMap", volume["configMap"]["name"])["data"]
            elif volume["secret"]["secretName"] == "relay-tls":
                files = self.certificate()
            else:
                files = self.secrets
            for name, text in files.items():
                text = text.replace("/etc/relay/", f"{home}/etc/relay/")
                (inside / name).write_text(text)
        there = lambda text: text.replace("/etc/relay/", f"{home}/etc/relay/")
        variables = {name: there(value) for name, value in environment(container).items()}
        arguments = [there(argument) for argument in container["args"]]
        ran = subprocess.run(
            [self.path, *arguments, "--check"], env=variables, capture_output=True, text=True
        )
        if ran.returncode != 0:
            raise SystemExit(f"k8s: the relay refuses its settings: {ran.stderr or ran.stdout}")
        return tomllib.loads(ran.stdout)

    def certificate(self):
        made = self.home / "tls"
        if not made.exists():
            made.mkdir()
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                 "subjectAltName=DNS:localhost", "-keyout", made / "tls.key", "-out",
                 made / "tls.crt"],
                check=True, capture_output=True,
            )
        return {name: (made / name).read_text() for name in ("tls.crt", "tls.key")}

    def answers(self, paths):
        """Asks a running relay for each path; gives the status of each."""
        log = self.home / "out"
        with log.open("w") as out:
            running = subprocess.Popen(
                [self.path, "--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"],
                stdout=out, stderr=subprocess.DEVNULL, env={},
            )
        try:
            deadline = time.monotonic() + 20
            while not (port := re.search(r"http://127.0.0.1:(\d+)/", log.read_text())):
                if time.monotonic() > deadline or running.poll() is not None:
                    raise SystemExit(f"k8s: the relay does not start: {log.read_text()}")
                time.sleep(0.05)
            time.sleep(0.5)
            return {path: status(f"http://127.0.0.1:{port[1]}{path}") for path in paths}
        finally:
            running.terminate()
            running.wait(10)


def status(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


# --- reading manifests -------------------------------------------------------------------------

SETTINGS = {}


def settings_of(docs):
    """What the relay of these manifests has in force; asked for once for each of them."""
    key = json.dumps([relay(docs)["args"], environment(relay(docs)), find(docs, "ConfigMap")])
    if key not in SETTINGS:
        SETTINGS[key] = PROGRAM.settings(docs)
    return SETTINGS[key]


def build(folder):
    ran = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if ran.returncode != 0:
        raise SystemExit(f"k8s: {folder} does not build: {ran.stderr}")
    return [doc for doc in yaml.safe_load_all(ran.stdout) if doc]


def variants():
    """Every overlay, the base, and the base with each component, by what they are."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(4) as pool:
        folders = {"base": K8S / "base"}
        for overlay in sorted((K8S / "overlays").iterdir()):
            folders[f"overlay {overlay.name}"] = overlay
        for component in sorted((K8S / "components").iterdir()):
            # Kustomize takes folders by relative paths only.
            folder = Path(scratch).resolve() / component.name
            folder.mkdir()
            text = {
                "resources": [os.path.relpath(K8S / "base", folder)],
                "components": [os.path.relpath(component, folder)],
            }
            (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
            folders[f"base and {component.name}"] = folder
        return dict(zip(folders, pool.map(build, folders.values())))


def read_of(built):
    """The files of each Secret that some variant reads, as its settings name them."""
    read = {}
    for docs in built.values():
        spec, container = pod_spec(find(docs, "StatefulSet")), relay(docs)
        settings = json.dumps([settings_of(docs), environment(container)])
        for mount in container["volumeMounts"]:
            volume = next(one for one in spec["volumes"] if one["name"] == mount["name"])
            if "secret" in volume:
                names = re.findall(re.escape(mount["mountPath"]) + r"/([\w.-]+)", settings)
                read.setdefault(volume["secret"]["secretName"], set()).update(names)
        job = find(docs, "Job")
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"] if job else []:
            reference = variable["valueFrom"]["secretKeyRef"]
            read.setdefault(reference["name"], set()).add(reference["key"])
    return read


def find(docs, kind):
    return next((doc for doc in docs if doc["kind"] == kind), None)


def named(docs, kind, name):
    return next(doc for doc in docs if doc["kind"] == kind and doc["metadata"]["name"] == name)


def name_of(doc):
    return f"{doc['kind']} {doc['metadata']['name']}"


def pod_spec(doc):
    if doc["kind"] in ("StatefulSet", "Job"):
        return doc["spec"]["template"]["spec"]
    return {}


def pods(docs):
    return find(docs, "StatefulSet")["spec"]["template"]


def relay(docs):
    return next(c for c in pods(docs)["spec"]["containers"] if c["name"] == "relay")


def probes(container):
    return {name: container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")}


def environment(container):
    """Variables as the kubelet sets them, the pod's name and zone made up."""
    made_up = {"metadata.name": "relay-0"}
    result = {}
    for variable in container["env"]:
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        result[variable["name"]] = made_up.get(field, "zone-a") if field else variable["value"]
    return result


def bytes_of(text):
    number, unit = re.fullmatch(r"(\d+)\s*([KMG]i?B?)?", str(text)).groups()
    return int(number) << {None: 0, "K": 10, "M": 20, "G": 30}[unit and unit[0]]


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


# --- the whole ---------------------------------------------------------------------------------


def write_rules():
    head = (
        "# dashboards/rules.yml, word for word; `.ci/k8s/check.py --write` copies it.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n  name: relay\n  namespace: relay\n"
        "  labels:\n    app.kubernetes.io/name: relay\n"
        "spec:\n"
    )
    lines = RULES.read_text().splitlines()
    body = "".join(f"  {line}\n" if line else "\n" for line in lines if not line.startswith("#"))
    RULES_COPY.write_text(head + body)


def main():
    wrong = []
    built = variants()
    wrong += planted(built["base"])
    wrong += profile((K8S / "seccomp/relay.json").read_text())
    paths = set()
    for title, docs in built.items():
        for check in CHECKS:
            wrong += [f"{title}: {sentence}" for sentence in check(docs)]
        paths |= {probe["httpGet"]["path"] for probe in probes(relay(docs)).values()}
        monitor = find(docs, "PodMonitor")
        if monitor:
            paths |= {endpoint["path"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for path, answer in PROGRAM.answers([*sorted(paths), "/no-such-path"]).items():
        if (answer == 200) != (path != "/no-such-path"):
            wrong.append(f"the relay answers {answer} to {path}")
    wrong += [
        f"k8s/README.md: {sentence}"
        for sentence in commands.wrong(ROOT, PROGRAM.path, PROGRAM.certificate(), read_of(built))
    ]
    for sentence in wrong:
        print(f"k8s: {sentence}", file=sys.stderr)
    count = sum(len(docs) for docs in built.values())
    if not wrong:
        print(f"k8s: {len(built)} builds, {count} objects, versions {' and '.join(VERSIONS)}: good")
    return 1 if wrong else 0


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if "--write" in sys.argv:
        write_rules()
        if not arguments:
            sys.exit(0)
    if len(arguments) != 1:
        sys.exit(__doc__)
    PROGRAM = Program(str(Path(arguments[0]).resolve()))
    sys.exit(main())

"""Runs what k8s/README.md tells its readers to type, as far as that goes without a cluster.

`kubectl create` makes its object without a server, and the Secrets that come of it are compared
with what the manifests read. Every other `kubectl` has to come as far as looking for a server: a
word that it does not know it would refuse before. Folders that are applied have to be there, and
scripts have to be scripts.
"""

import re
import shlex
import subprocess
import tempfile
from pathlib import Path

import yaml

# Files that a reader makes, or has; what is in them is no matter here.
OWN = ("stream-keys", "api-tokens", "cluster", "tls.crt", "tls.key")
# Nobody listens there.
NOWHERE = "http://127.0.0.1:9"


def wrong(root, program, certificate, secrets):
    """What is wrong with the commands; `secrets` are the files that manifests read, by Secret."""
    text = (root / "k8s/README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith("kubectl ")]
    made = {}
    seen = set()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        for name in OWN:
            (home / name).write_text(certificate.get(name, "some text\n"))
        for block in blocks:
            ran = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
            if ran.returncode != 0:
                yield f"no script: {ran.stderr.strip()}: {block}"
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        for line in [*lines, *inline]:
            words = shlex.split(line, comments=True)
            seen.add(" ".join(words[:1]))
            if words[:1] == ["kubectl"]:
                yield from kubectl(root, home, words, made)
            elif words[:1] == ["relay"]:
                ran = run([program, *words[1:]], home)
                if ran.returncode != 0:
                    yield f"{line}: {ran.stderr.strip()}"
            elif words[:2] == ["podman", "build"]:
                if not (root / words[words.index("-f") + 1]).exists():
                    yield f"{line}: no such Dockerfile"
    for name, files in secrets.items():
        if not files <= made.get(name, set()):
            yield f"the Secret {name} is made with {made.get(name)}, but {files} are read"
    if not {"kubectl", "relay", "podman"} <= seen:
        yield f"only {seen} were found"


def kubectl(root, home, words, made):
    words = words[: next((at for at, word in enumerate(words) if word in "&;|"), len(words))]
    if "create" in words:
        ran = run([*words, "--dry-run=client", "-o", "yaml"], home)
        if ran.returncode != 0:
            yield f"{' '.join(words)}: {ran.stderr.strip()}"
            return
        found = yaml.safe_load(ran.stdout)
        if found["kind"] == "Secret":
            made[found["metadata"]["name"]] = set(found["data"])
        return
    if "-k" in words:
        folder = words[words.index("-k") + 1]
        if not (root / folder / "kustomization.yaml").exists():
            yield f"{' '.join(words)}: no such folder"
        return
    ran = run([*words, f"--server={NOWHERE}"], home)
    if "refused" not in ran.stderr + ran.stdout:
        yield f"{' '.join(words)}: {ran.stderr.strip() or ran.stdout.strip() or 'nothing said'}"


def run(words, home):
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        words, cwd=home, env=environment, capture_output=True, text=True, timeout=60
    )

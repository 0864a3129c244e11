"""The examples of docs/server.md and the files of ops/."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT
from serving import Server, needs_server

EXAMPLES = [line for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "server.md").read_text(), re.S)
            for line in block.splitlines() if line.startswith("curl")]


@needs_server
def test_the_examples_of_the_manual_work(support):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert len(EXAMPLES) > 15
    with Server(support, "--refit=false") as server:
        for line in EXAMPLES:
            command = line.replace("localhost:8080", f"localhost:{server.port}")
            done = subprocess.run(["bash", "-c", command.replace("curl ", "curl -sS --fail-with-body ", 1)],
                                  cwd=support.directory, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            if "-o " not in line:
                answers = [json.loads(answer) for answer in done.stdout.splitlines() if answer]
                assert answers and "problem" not in answers[-1], line


@needs_server
def test_the_manual_names_every_setting(support):
    manual = (ROOT / "docs" / "server.md").read_text() + (ROOT / "docs" / "observability.md").read_text() \
        if (ROOT / "docs" / "observability.md").exists() else None
    if manual is None:
        pytest.skip("there is no docs/observability.md yet")
    printed = support.run("serve", "--print-config").out
    for name in re.findall(r"^(?:# )?(\w+):", printed, re.M):
        assert f"`{name}`" in manual, name


@needs_server
def test_the_settings_of_ops_are_read(support):
    out = support.run("serve", "--config", ROOT / "ops" / "server.yaml", "--print-config").out
    assert "drain_delay_seconds: 5" in out
    mapped = re.search(r"server\.yaml: \|\n((?:    .*\n)+)", (ROOT / "ops" / "kubernetes" / "synaptoroute.yaml").read_text())[1]
    support.write("mapped.yaml", re.sub("^    ", "", mapped, flags=re.M))
    assert 'db: "/data/routes.db"' in support.run("serve", "--config", "mapped.yaml", "--print-config").out
    environment = {**os.environ, **dict(re.findall(r"(SYNAPTOROUTE_\w+)=(\S+)", (ROOT / "ops" / "Dockerfile").read_text()))}
    support.write("own.yaml", "listen: 0.0.0.0:9090\nkeys: own.keys\n")
    own = support.run("serve", "--config", "own.yaml", "--print-config", env=environment).out
    assert 'listen: "0.0.0.0:9090"' in own and 'keys: "own.keys"' in own
    environment["SYNAPTOROUTE_CONFIG"] = str(ROOT / "ops" / "image.yaml")
    assert 'keys: "/etc/synaptoroute/keys"' in support.run("serve", "--print-config", env=environment).out


def test_the_manifests_are_what_kubernetes_wants():
    yaml = pytest.importorskip("yaml", reason="the package yaml is not installed")
    kinds = {m["kind"]: m for m in yaml.safe_load_all((ROOT / "ops" / "kubernetes" / "synaptoroute.yaml").read_text())}
    assert set(kinds) == {"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service", "NetworkPolicy"}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    volumes = {v["name"] for v in pod["volumes"]}
    assert {m["name"] for m in container["volumeMounts"]} == volumes
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"].items() <= labels.items()
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_unit_is_what_systemd_wants(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = (ROOT / "ops" / "synaptoroute.service").read_text().replace("/usr/bin/synaptoroute", "/bin/true")
    (tmp_path / "synaptoroute.service").write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "synaptoroute.service"], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "synaptoroute.service" in line]
    assert done.returncode == 0 and not ours, done.stderr

"""What `deploy/` holds: units that systemd takes, manifests that Kubernetes takes, settings that ToolScore knows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from listening import Serving, serving
from postgres import Postgres
from toolscore.server.cli.parser import parse
from toolscore.server.settings import load

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = {"toolscore.service": "system", "toolscore-user.service": "user"}
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.stem != "kustomization")
GATEWAYS = DEPLOY / "kubernetes-gateways"
TOKEN = "a-token-from-a-secret-volume"
ENDING = 15
"""Seconds ToolScore has to end its servers and clients, after calls had theirs."""

Document = dict[str, Any]
with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def container() -> Document:
    pod = documents(DEPLOY / "kubernetes" / "statefulset.yaml")[0]["spec"]["template"]["spec"]
    only: Document = pod["containers"][0]
    return only


def validated(document: Document, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries this stands on
        import kubernetes_validate  # type: ignore[import-untyped]

        kubernetes_validate.validate(document, version, strict=True)


# --- Kubernetes


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_what_the_api_of_kubernetes_says(path: Path, version: str) -> None:
    for document in documents(path):
        validated(document, version)


def test_a_manifest_with_a_slip_would_be_found() -> None:
    document = documents(DEPLOY / "kubernetes" / "statefulset.yaml")[0]
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(Exception, match="readinesProbe"):
        validated(document, "1.30")


def test_what_is_applied_is_all_there_and_nothing_that_holds_a_secret() -> None:
    told = documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]["resources"]
    assert sorted(told) == sorted(path.name for path in MANIFESTS if ".example" not in path.name)
    kinds = {document["kind"] for name in told for document in documents(DEPLOY / "kubernetes" / name)}
    assert kinds == {"StatefulSet", "Service", "PodDisruptionBudget"}


def test_the_parts_of_the_manifests_find_one_another() -> None:
    (stateful,) = documents(DEPLOY / "kubernetes" / "statefulset.yaml")
    (service,) = documents(DEPLOY / "kubernetes" / "service.yaml")
    (budget,) = documents(DEPLOY / "kubernetes" / "disruption.yaml")
    (secret,) = documents(DEPLOY / "kubernetes" / "secret.example.yaml")
    pod = stateful["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    assert stateful["spec"]["selector"]["matchLabels"].items() <= labels
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    one = container()
    ports = {port["name"] for port in one["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert mounts.keys() == volumes.keys() | claims
    assert volumes["token"]["secret"]["secretName"] == secret["metadata"]["name"]
    environ = environment()
    assert environ["TOOLSCORE_TOKEN_FILE"] == f"{mounts['token']}/{next(iter(secret['stringData']))}"
    assert volumes["token"]["secret"]["defaultMode"] & 0o007 == 0
    assert service["metadata"]["name"] in environ["TOOLSCORE_NETWORK_ALLOWED_HOSTS"].split(",")
    # The home must not be the volume's own folder, which the engine opens to a group.
    home = Path(dockerfile_environment()["TOOLSCORE_HOME"])
    assert Path(mounts["state"]) in home.parents


def environment() -> dict[str, str]:
    return {one["name"]: one["value"] for one in container()["env"]}


def laid_over(under: Any, over: Any) -> Any:
    """Merge as `kubectl apply -k` does (a strategic merge patch): lists of what has a name by their names."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {
            key: laid_over(under[key], over[key]) if key in under and key in over else (under | over)[key]
            for key in under | over
        }
    if isinstance(under, list) and all("name" in one for one in [*under, *over]):
        named = {one["name"]: one for one in over}
        kept = [laid_over(one, named.pop(one["name"], {})) for one in under]
        return [*named.values(), *kept]
    return over


def several() -> Document:
    """The stateful set of several gateways, as it is applied."""
    (base,) = documents(DEPLOY / "kubernetes" / "statefulset.yaml")
    (patch,) = documents(GATEWAYS / "statefulset.yaml")
    whole: Document = laid_over(base, patch)
    return whole


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_what_is_applied_for_several_gateways_is_what_the_api_of_kubernetes_says(version: str) -> None:
    told = documents(GATEWAYS / "kustomization.yaml")[0]
    assert (GATEWAYS / told["resources"][0]).resolve() == DEPLOY / "kubernetes"
    assert told["patches"] == [{"path": "statefulset.yaml"}]
    validated(several(), version)
    for name in ("network.yaml", "secret.example.yaml"):
        for document in documents(GATEWAYS / name):
            validated(document, version)
    assert told["resources"][1:] == ["network.yaml"]


def test_the_parts_of_several_gateways_find_one_another() -> None:
    stateful = several()
    pod = stateful["spec"]["template"]
    assert stateful["spec"]["replicas"] > 1
    (one,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    (network,) = documents(GATEWAYS / "network.yaml")
    assert {port["port"] for rule in network["spec"]["ingress"] for port in rule["ports"]} == ports.keys()
    selectors = [network["spec"]["podSelector"], network["spec"]["ingress"][1]["from"][0]["podSelector"]]
    (apart,) = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    for selector in [*selectors, apart["podAffinityTerm"]["labelSelector"]]:
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (secret,) = documents(GATEWAYS / "secret.example.yaml")
    env = {each["name"]: each for each in one["env"]}
    asked = [each["valueFrom"]["secretKeyRef"] for each in one["env"] if "secretKeyRef" in str(each)]
    assert {each["name"] for each in asked} == {secret["metadata"]["name"]}
    assert {each["key"] for each in asked} == secret["stringData"].keys()
    # A variable is put into one that comes after it only.
    order = list(env)
    assert order.index("POD_IP") < order.index("TOOLSCORE_GATEWAY_URL")
    assert env["TOOLSCORE_GATEWAY_URL"]["value"] == f"ws://$(POD_IP):{ports['gateways']}"
    assert env["TOOLSCORE_GATEWAY_LISTEN"]["value"].endswith(f":{ports['gateways']}")
    (service,) = documents(DEPLOY / "kubernetes" / "service.yaml")
    assert "sessionAffinity" not in service["spec"]


def test_a_toolscore_that_is_started_like_one_of_several_pods_is_a_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    (one,) = several()["spec"]["template"]["spec"]["containers"]
    (secret,) = documents(GATEWAYS / "secret.example.yaml")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o440)
    told = {"status.podIP": "127.0.0.1", "metadata.name": "toolscore-0"}
    url = postgres.database()
    for variable in one["env"]:
        match variable.get("valueFrom"):
            case {"fieldRef": {"fieldPath": path}}:
                value = told[path]
            case {"secretKeyRef": {"key": key}}:
                value = url if key == "url" else secret["stringData"][key]
            case _:
                value = variable["value"]
        monkeypatch.setenv(variable["name"], value.replace("$(POD_IP)", "127.0.0.1"))
    monkeypatch.setenv("TOOLSCORE_TOKEN_FILE", str(token))
    monkeypatch.setenv("TOOLSCORE_GATEWAY_LISTEN", "ws://127.0.0.1:0")  # where others may test as well
    with serving(tmp_path / "home", "http://127.0.0.1:0/mcp", options=tuple(one["args"][1:])) as pod:
        assert get(pod, "/health/ready").status_code == 200
        ((name, address, state),) = postgres.execute("SELECT name, url, state FROM gateway", url)
    assert (name, address, state) == ("toolscore-0", "ws://127.0.0.1:8770", "serving")


def test_a_pod_has_the_time_its_end_takes() -> None:
    (stateful,) = documents(DEPLOY / "kubernetes" / "statefulset.yaml")
    before = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = stateful["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert before + float(environment()["TOOLSCORE_SHARED_DRAIN"]) + ENDING <= grace


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A ToolScore with the environment and arguments of the manifest, but for where things are."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o440)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOOLSCORE_TOKEN_FILE", str(token))
    address = environment()["TOOLSCORE_NETWORK_LISTEN"]
    assert address == "http://0.0.0.0:8000/mcp"
    arguments = container()["args"]
    assert arguments[0] == "serve"
    with serving(tmp_path / "home", "http://127.0.0.1:0/mcp", options=tuple(arguments[1:])) as one:
        yield one


def test_the_probes_are_answered_by_a_toolscore_that_is_started_like_the_pod(pod: Serving) -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    probes = {name: probe for name, probe in container().items() if name.endswith("Probe")}
    assert probes.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}
    for probe in probes.values():
        assert ports[probe["httpGet"]["port"]] == 8000
        answer = get(pod, probe["httpGet"]["path"], Host="127.0.0.1:8000")
        assert answer.status_code == 200, probe
    assert get(pod, "/health/nothing").status_code in (401, 404)


def test_the_service_is_known_by_its_names_and_the_token_is_that_of_the_secret(pod: Serving) -> None:
    for name in ("toolscore", "toolscore.default.svc.cluster.local"):
        assert get(pod, "/health/ready", Host=f"{name}:8000").status_code == 200
        assert get(pod, "/metrics", Host=name, Authorization=f"Bearer {TOKEN}").status_code == 200
    assert get(pod, "/health/ready", Host="rebound.example").status_code == 421
    assert get(pod, "/metrics", Host="toolscore").status_code == 401


def get(one: Serving, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(one.page(path), headers=headers, trust_env=False, timeout=30)


# --- settings that are named


def dockerfile_environment() -> dict[str, str]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    line = re.search(r"^ENV (.*)$", text, re.MULTILINE)
    assert line is not None
    return dict(word.split("=", 1) for word in shlex.split(line[1]))


def unit_lines(name: str) -> list[tuple[str, str]]:
    lines = (DEPLOY / "systemd" / name).read_text().splitlines()
    return [
        (key, value)
        for line in lines
        if "=" in line and line[0] != "#"
        for key, _, value in [line.partition("=")]
    ]


def unit_environment(name: str) -> dict[str, str]:
    words = [word for key, value in unit_lines(name) if key == "Environment" for word in value.split()]
    return dict(word.split("=", 1) for word in words)


def test_the_settings_that_are_named_are_settings(tmp_path: Path) -> None:
    (gateway,) = several()["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in gateway["env"] if "value" in each}
    given["TOOLSCORE_GATEWAY_URL"] = given["TOOLSCORE_GATEWAY_URL"].replace("$(POD_IP)", "10.0.0.7")
    for environ in (environment(), given, dockerfile_environment(), *map(unit_environment, UNITS)):
        load(environ=environ, home=str(tmp_path))


def test_what_is_started_is_a_command_of_toolscore() -> None:
    lines = [line for name in UNITS for key, line in unit_lines(name) if key == "ExecStart"]
    lines.append(" ".join(["toolscore", *container()["args"]]))
    command = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert command is not None
    lines.append(" ".join(["toolscore", *yaml.safe_load(command[1])]))
    for line in lines:
        assert parse(line.split()[1:]).service, line


def test_an_image_is_made_of_exactly_what_the_wheel_is() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert kept == wheel | {"pyproject.toml", "README.md", "deploy/Dockerfile"}
    assert all((ROOT / name).exists() for name in kept)


# --- systemd


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    told = analyze(unit_at(tmp_path, name), name, tmp_path)
    # Known from version 254 on, and no reason to do without it.
    told = [line for line in told if "DelegateSubgroup" not in line]
    assert told == []


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
def test_a_unit_with_a_slip_would_be_found(tmp_path: Path) -> None:
    path = unit_at(tmp_path, "toolscore.service")
    path.write_text(path.read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert any("NoNewPrivilege" in line for line in analyze(path, "toolscore.service", tmp_path))


def unit_at(folder: Path, name: str) -> Path:
    """A unit whose program is there."""
    path = folder / name
    program = folder / "toolscore"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(
        r"^ExecStart=\S+", f"ExecStart={program}", (DEPLOY / "systemd" / name).read_text(), flags=re.M
    )
    path.write_text(text)
    return path


def analyze(path: Path, name: str, folder: Path) -> list[str]:
    words = [
        "systemd-analyze",
        "verify",
        "--man=no",
        *(["--user"] if UNITS[name] == "user" else []),
        str(path),
    ]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environ, timeout=120)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if path.name in line]
    if done.returncode and not lines:
        lines = [done.stderr]
    return lines


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
def test_the_unit_of_the_machine_leaves_little_open(tmp_path: Path) -> None:
    words = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        str(unit_at(tmp_path, "toolscore.service")),
    ]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    found = re.search(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= 4.0


def test_a_service_has_the_time_its_end_takes() -> None:
    for name in UNITS:
        found = dict(unit_lines(name))
        assert load(environ={}, home="/nowhere").settings.shared.drain + ENDING <= float(
            found["TimeoutStopSec"]
        )
        assert found["KillMode"] == "mixed"  # SIGTERM to all at once would end the servers under their calls

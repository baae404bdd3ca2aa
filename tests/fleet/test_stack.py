"""`make up`: the real compose file with all services but Grafana, and a model's life through it on a real fleet."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.fleet.test_lifecycle import write_model
from tests.servers.edge import EdgeFleet
from tests.servers.edge_node import EdgeNode
from tests.servers.engine import shared_socket
from tests.servers.sshd import free_port
from tests.servers.stack import Stack, stack_folder, until
from tests.servers.stack_images import load_stack_images

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("fleet")]

SECRETS = (
    "EVC_METADATA_PASSWORD",
    "EVC_METRICS_PASSWORD",
    "EVC_GRAFANA_DATABASE_PASSWORD",
    "EVC_ADMIN_PASSWORD",
    "EVC_GRAFANA_ADMIN_PASSWORD",
    "EVC_GRAFANA_SECRET",
    "EVC_API_SECRET",
    "EVC_JWT_SECRET",
    "EVC_FERNET_KEY",
)
SERVICES = {
    "metadata-db", "metrics-db", "init", "api-server", "scheduler", "dag-processor", "triggerer", "registry",
    "registry-pull",
}  # fmt: skip
FACES = {"registry": "EVC_REGISTRY_PORT", "registry-pull": "EVC_REGISTRY_PULL_PORT"}


@pytest.fixture(scope="module")
def stack(edge_fleet: EdgeFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    load_stack_images(edge_fleet.engine)
    for node in (edge_fleet.builder, *edge_fleet.nodes.values()):
        node.clean(keep_images=["base/python:3.11"])
    folder = tmp_path_factory.mktemp("stack")
    write_model(folder / "include" / "models" / "counter")
    settings = {
        "EVC_ADDRESS": edge_fleet.gateway,
        "EVC_NODES_LOGIN": "root",
        "EVC_AIRFLOW_PORT": str(free_port()),
        "EVC_REGISTRY_PORT": str(free_port()),
        "EVC_REGISTRY_PULL_PORT": str(free_port()),
        "EVC_SWEEP_WINDOW_S": "60",
    }
    with stack_folder(folder, shared_socket(), settings) as stack:
        up(stack, edge_fleet)
        yield stack


def up(stack: Stack, fleet: EdgeFleet) -> str:
    """Start it, and let its tasks into the network of the fleet, which leads nowhere else."""
    printed = stack.run("up").stdout
    stack.client.networks.get(fleet.network_name).connect(stack.container("scheduler"))
    return printed


def run(stack: Stack, dag_id: str, **conf: object) -> str:
    """Trigger a run and wait for its end, which must be success."""
    api = stack.api()
    run_id = api.trigger(dag_id, conf)
    until(lambda: api.run_state(dag_id, run_id) in {"success", "failed"}, 300, f"{dag_id} {run_id}")
    assert api.run_state(dag_id, run_id) == "success", api.failure(dag_id, run_id)
    return run_id


def _is_healthy(stack: Stack, service: str) -> bool:
    state = stack.container(service).attrs["State"]
    return (state["Status"], state["Health"]["Status"]) == ("running", "healthy")


def test_secrets_are_fresh_private_and_kept(stack: Stack, edge_fleet: EdgeFleet) -> None:
    file = stack.folder / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said, before = stack.settings(), file.read_bytes()
    found = [said[name] for name in SECRETS]
    assert min(map(len, found)) >= 43
    assert len(set(found)) == len(SECRETS)

    running = _ids(stack)
    printed = stack.run("up").stdout
    assert file.read_bytes() == before
    assert f"http://127.0.0.1:{said['EVC_AIRFLOW_PORT']}, user admin" in printed
    assert re.search(r"^ssh-ed25519 \S+ evc$", printed, re.MULTILINE)
    assert not [secret for secret in found if secret in printed]
    assert _ids(stack) == running


def test_every_service_is_healthy_restarts_and_is_nobody_special(stack: Stack) -> None:
    said = stack.settings()
    containers = {container.labels["com.docker.compose.service"]: container for container in stack.containers()}
    assert set(containers) == SERVICES
    assert containers.pop("init").attrs["State"]["ExitCode"] == 0
    for service, container in containers.items():
        assert _is_healthy(stack, service), service
        assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        processes = _processes(container)
        assert "0" not in {uid for uid, _ in processes}, (service, processes)
        shown = " ".join(args for _, args in processes)
        assert not [name for name in SECRETS if said[name] in shown], service


def _ids(stack: Stack) -> dict[str, str]:
    return {service: str(container.id) for service, container in _running(stack).items()}


def _starts(stack: Stack) -> dict[str, str]:
    return {service: container.attrs["State"]["StartedAt"] for service, container in _running(stack).items()}


def _running(stack: Stack) -> dict[str, Container]:
    """Return the containers of services, but of the one that makes ready and ends."""
    found = {container.labels["com.docker.compose.service"]: container for container in stack.containers()}
    return {service: container for service, container in found.items() if service != "init"}


def _processes(container: Container) -> list[tuple[str, str]]:
    """Return user and command line of each."""
    return [(uid, args) for _, uid, args in container.top(ps_args="-eo pid,uid,args")["Processes"]]


def test_no_log_holds_a_secret(stack: Stack) -> None:
    said = stack.settings()
    for container in stack.containers():
        log = container.logs().decode(errors="replace")
        assert not [name for name in SECRETS if said[name] in log], container.name


def test_a_model_goes_its_whole_way(stack: Stack, edge_fleet: EdgeFleet) -> None:
    key = stack.container("scheduler").exec_run(["cat", "/var/lib/evc/id_ed25519.pub"]).output
    edges = [edge_fleet.nodes[name] for name in sorted(edge_fleet.nodes)][:2]
    for node in (edge_fleet.builder, *edges):
        _let_in(node, key)
        run(stack, "register_node", name=node.name, host=node.address, host_key=node.host_key, groups=["edge"])
    names = [node.name for node in edges]

    # collected by its schedule, which `make up` has switched on
    swept = "SELECT count(DISTINCT node_id) FROM node_samples WHERE up = 1 AND cpu_usage_ratio IS NOT NULL"
    until(lambda: stack.rows(swept) == [[3]], 600, "samples of all nodes")

    run(stack, "build_model", model="counter", builder=edge_fleet.builder.name)
    run(stack, "deploy_model", model="counter", tag="1.0", nodes=names, waves=[1, "100%"])
    run_id = run(stack, "run_inference", model="counter", nodes=names)
    ended = f"SELECT status, frames FROM inference_runs WHERE run_id = '{run_id}'"  # noqa: S608  of our own making
    assert stack.rows(ended) == [["succeeded", 5], ["succeeded", 5]]
    assert "counter" in stack.run("evc", "rollouts").stdout

    # Grafana's login reads that, and writes nothing
    as_grafana = {"login": "grafana", "password": "EVC_GRAFANA_DATABASE_PASSWORD"}
    assert stack.rows("SELECT count(*) FROM inference_results", **as_grafana)[0][0] >= 10
    with pytest.raises(AssertionError, match="read-only transaction"):
        stack.rows("DELETE FROM nodes RETURNING id", **as_grafana)


def _let_in(node: EdgeNode, key: bytes) -> None:
    with (node.folder / "authorized_keys").open("ab") as file:
        file.write(key)


def test_both_faces_serve_a_renewed_certificate_after_up(stack: Stack, edge_fleet: EdgeFleet) -> None:
    authority = stack.container("scheduler").exec_run(["cat", "/srv/registry/ca.crt"]).output.decode()
    node = edge_fleet.nodes["edge-1"]
    old, digest, before = _served(stack, authority), _pulled(stack, node), _starts(stack)

    assert "start both faces again" in stack.run("evc", "registry", "init", "--renew").stdout
    assert _served(stack, authority) == old

    stack.run("up")
    new, after = _served(stack, authority), _starts(stack)
    assert len(set(new.values())) == 1
    assert new["registry"] not in old.values()
    assert {service for service in SERVICES - {"init"} if after[service] != before[service]} == set(FACES)
    # who trusted the authority before still does: nodes and Airflow
    assert _pulled(stack, node) == digest
    run(stack, "sync_registry")
    held = "SELECT repository, tag, digest FROM registry_images WHERE gone_ts IS NULL"
    assert stack.rows(held) == [["counter", "1.0", digest]]

    stack.run("up")
    assert _starts(stack) == after
    assert _served(stack, authority) == new


def _served(stack: Stack, authority: str) -> dict[str, str]:
    """Return the fingerprint of what each face serves, which ``authority`` has to have signed."""
    said, trust = stack.settings(), ssl.create_default_context(cadata=authority)
    address, fingerprints = said["EVC_ADDRESS"], {}
    for face, port in FACES.items():
        with (
            socket.create_connection((address, int(said[port])), timeout=10) as connection,
            trust.wrap_socket(connection, server_hostname=address) as tls,
        ):
            fingerprints[face] = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    return fingerprints


def _pulled(stack: Stack, node: EdgeNode) -> str:
    """Pull the model as a person on the node would; returns its digest."""
    said = stack.settings()
    printed = node.run("docker", "pull", f"{said['EVC_ADDRESS']}:{said['EVC_REGISTRY_PULL_PORT']}/counter:1.0")
    found = re.search(r"^Digest: (sha256:[0-9a-f]{64})$", printed, re.MULTILINE)
    assert found, printed
    return found[1]


def test_what_dies_comes_back(stack: Stack) -> None:
    killed = stack.container("scheduler").attrs["State"]["Pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: stack.container("scheduler").attrs["State"]["Pid"] not in {0, killed}, 60, "a new scheduler")
    until(lambda: _is_healthy(stack, "scheduler"), 180, "its health")


def test_down_and_up_keeps_data_keys_and_what_was_switched_off(stack: Stack, edge_fleet: EdgeFleet) -> None:
    before = stack.container("scheduler").exec_run(["cat", "/var/lib/evc/id_ed25519.pub"]).output
    stack.run("airflow", "dags", "pause", "--yes", "locate_nodes")
    stack.run("down")
    assert stack.containers() == []
    up(stack, edge_fleet)
    assert stack.container("scheduler").exec_run(["cat", "/var/lib/evc/id_ed25519.pub"]).output == before
    assert "edge-1" in stack.run("evc", "nodes").stdout
    api = stack.api()
    assert api.get("/api/v2/dags/locate_nodes")["is_paused"] is True
    assert api.get("/api/v2/dags/collect_telemetry")["is_paused"] is False
    assert api.get("/api/v2/importErrors")["import_errors"] == []


def test_a_backup_brings_all_of_it_back_on_an_empty_machine(stack: Stack, edge_fleet: EdgeFleet) -> None:
    """The commands are those of docs/stack.md."""
    node, name = edge_fleet.nodes["edge-1"], {each: str(stack.container(each).name) for each in SERVICES}
    digest, held = _pulled(stack, node), "SELECT count(*) FROM inference_results"
    stack.run("airflow", "dags", "pause", "--yes", "locate_nodes")
    dumps = [
        stack.docker("exec", name["metrics-db"], "pg_dump", "-U", "evc", "-Fc", "evc"),
        stack.docker("exec", name["metadata-db"], "pg_dump", "-U", "airflow", "-Fc", "airflow"),
        stack.docker("exec", name["scheduler"], "tar", "-C", "/", "-c", "var/lib/evc", "srv/registry"),
    ]
    stack.run("down")
    for volume in stack.volumes():
        volume.remove()

    up(stack, edge_fleet)
    assert "edge-1" not in stack.run("evc", "nodes").stdout
    stack.docker("stop", *(name[part] for part in ("api-server", "scheduler", "dag-processor", "triggerer")))
    for service, database, dump in (("metrics-db", "evc", dumps[0]), ("metadata-db", "airflow", dumps[1])):
        stack.docker("exec", name[service], "dropdb", "-U", database, "--force", database)
        stack.docker("exec", name[service], "createdb", "-U", database, database)
        stack.docker("exec", "-i", name[service], "pg_restore", "-U", database, "-d", database, given=dump)
    volumes = ("--volumes-from", name["scheduler"], "--entrypoint", "tar")
    stack.docker("run", "--rm", "-i", *volumes, stack.settings()["EVC_IMAGE"], "-C", "/", "-x", given=dumps[2])
    stack.run("down")
    up(stack, edge_fleet)

    assert stack.rows(held)[0][0] >= 10
    assert _pulled(stack, node) == digest
    run(stack, "sync_registry")
    assert stack.api().get("/api/v2/dags/locate_nodes")["is_paused"] is True
    swept = "SELECT count(DISTINCT node_id) FROM node_samples WHERE up = 1 AND ts > extract(epoch FROM now()) - 60"
    until(lambda: stack.rows(swept) == [[3]], 300, "new samples of all nodes, by the key that they know")


def test_without_a_start_it_says_so(tmp_path: Path, stack: Stack) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "stack.sh").write_bytes((stack.folder / "tools" / "stack.sh").read_bytes())
    (tmp_path / "tools" / "stack.sh").chmod(0o755)
    done = Stack(tmp_path, stack.socket, stack.client).run("down", check=False)
    assert (done.returncode, done.stderr) == (1, "stack: there is no .env: make up was never run here\n")

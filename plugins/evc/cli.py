"""``evc``: the fleet on a shell. Reads the metrics database, keeps the registry's folder; does not import Airflow.

Every command has ``--json``: one array, keys as the columns are called, numbers unrounded, ``ts`` in unix seconds. The
table is for people: local time, GiB, percent, ``-`` where nothing is known.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from evc.errors import EvcError, InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from evc.building.outlook import Outlook
    from evc.fleet.scenarios import Scenario
    from evc.registry.client import RegistryClient
    from evc.registry.folder import Face, Made, RegistryFolder

Row = Mapping[str, Any]

DATABASE_VARIABLE = "AIRFLOW_CONN_EVC_METRICS"
STATE_VARIABLE = "EVC_STATE"
REGISTRY_VARIABLE = "AIRFLOW__EVC__REGISTRY_FOLDER"
REGISTRY_CONNECTION_VARIABLE = "AIRFLOW_CONN_EVC_REGISTRY"
DEFAULT_STATE_FOLDER = ".evc"
GIB = 2**30
KIB = 2**10
# wide enough for any row where there is no terminal: a pipe gets every character
_UNBOUNDED_COLUMNS = 10_000


# -- what a cell shows -----------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return ``text`` with everything that could move a cursor, change colours or direction shown as an escape."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _time(ts: Any) -> str:
    return datetime.fromtimestamp(ts).astimezone().isoformat(timespec="seconds")


def _percent(ratio: Any) -> str:
    return f"{100 * ratio:.1f}"


def _kib(count: Any) -> str:
    return f"{count / KIB:.1f}"


def _megabytes(count: Any) -> str:
    return f"{count / 1e6:.1f}"


def _one_decimal(number: Any) -> str:
    return f"{number:.1f}"


def _duration(seconds: Any) -> str:
    return str(timedelta(seconds=round(seconds)))


def _list(names: Any) -> str:
    return ", ".join(names)


def _up(up: Any) -> str:
    return "up" if up else "down"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :param key: the key of its rows that it shows
    :param show: of a value that is not None
    :param number: at the right
    """

    title: str
    key: str
    show: Callable[[Any], str] = str
    number: bool = False

    def cell(self, row: Row) -> str:
        """Return what the table shows of ``row``; ``-`` where nothing is known."""
        value = row.get(self.key)
        return "-" if value is None or value in ("", []) else printable(self.show(value))


@dataclass(frozen=True, slots=True)
class Used(Column):
    """GiB in use, of how many: of storage as ``df`` says; of memory, which has no such column, total less available."""

    def cell(self, row: Row) -> str:
        """Return e.g. ``3.1/7.7``."""
        total, used, available = (row.get(self.key.format(part)) for part in ("total", "used", "available"))
        if used is None and total is not None and available is not None:
            used = total - available
        return "-" if total is None or used is None else f"{used / GIB:.1f}/{total / GIB:.1f}"


NODES = (
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("HOST", "host"),
    Column("PORT", "port", number=True),
    Column("GROUPS", "groups", _list),
    Column("BOARD", "board_model"),
    Column("ARCH", "arch"),
    Column("OS", "os"),
    Column("ADDRESS", "address"),
    Column("LAST SEEN", "last_seen_ts", _time),
)
SAMPLES = (
    Column("TIME", "ts", _time),
    Column("STATUS", "up", _up),
    Column("CPU %", "cpu_usage_ratio", _percent, number=True),
    Column("LOAD1", "load1", _one_decimal, number=True),
    Used("MEMORY GiB", "memory_{}_bytes", number=True),
    Used("STORAGE GiB", "storage_{}_bytes", number=True),
    Column("RX KiB/s", "network_receive_bytes_per_s", _kib, number=True),
    Column("TX KiB/s", "network_transmit_bytes_per_s", _kib, number=True),
    Column("TEMP °C", "temperature_celsius", _one_decimal, number=True),
    Column("GPU %", "gpu_usage_ratio", _percent, number=True),
    Column("UPTIME", "uptime_s", _duration, number=True),
)
EVENTS = (
    Column("TIME", "ts", _time),
    Column("NODE", "node"),
    Column("SEVERITY", "severity"),
    Column("KIND", "kind"),
    Column("MESSAGE", "message"),
)
ACCOUNTS = (Column("LOGIN", "login"), Column("FACE", "face"))
ROLLOUTS = (
    Column("ID", "id", number=True),
    Column("MODEL", "model"),
    Column("TAG", "tag"),
    Column("STATUS", "status"),
    Column("ASKED", "command"),
    Column("NODES", "nodes", number=True),
    Column("GOOD", "succeeded", number=True),
    Column("FAILED", "failed", number=True),
    Column("PENDING", "pending", number=True),
    Column("BEGUN", "created_ts", _time),
    Column("ENDED", "finished_ts", _time),
    Column("MESSAGE", "message"),
)
ROLLOUT_NODES = (
    Column("NODE", "name"),
    Column("WAVE", "wave", lambda wave: str(wave + 1), number=True),
    Column("STATUS", "status"),
    Column("MB", "bytes_done", _megabytes, number=True),
    Column("OF", "bytes_total", _megabytes, number=True),
    Column("MB/s", "rate_bytes_per_s", _megabytes, number=True),
    Column("BEGUN", "started_ts", _time),
    Column("ENDED", "finished_ts", _time),
    Column("MESSAGE", "message"),
)
NODE_SAMPLES = (Column("NODE", "node"), *SAMPLES)


def print_table(rows: Sequence[Row], columns: Sequence[Column], to: TextIO) -> None:
    """Print ``rows``; no wider than the terminal, and with no frame or colour where there is none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = to.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold" if terminal else "")
    for column in columns:
        table.add_column(column.title, justify="right" if column.number else "left")
    for row in rows:
        table.add_row(*(Text(column.cell(row)) for column in columns))
    console = Console(file=to, width=None if terminal else _UNBOUNDED_COLUMNS, highlight=False)
    console.print(table)


def print_json(rows: Sequence[Row], to: TextIO) -> None:
    """Print ``rows`` as one JSON array; what is not printable is escaped, the rest stays readable."""
    text = json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=2)
    to.write("".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n")


# -- the metrics database --------------------------------------------------------------------------------------------


def open_database(given: str | None, create: bool = False) -> Engine:
    """Return an engine on the database that is meant: ``given``, the environment's, or the embedded one.

    :param given: Airflow connection URI or SQLAlchemy URL
    :param create: make the folder of the embedded one
    :raises InputError: it is neither, or there is no embedded one
    """
    from evc.store.database import open_engine, url_from_connection

    if given is None:
        value = os.environ.get(DATABASE_VARIABLE)
        return open_engine(url_from_connection(value) if value else _embedded(create))
    try:
        return open_engine(url_from_connection(given))
    except InputError as error:
        raise InputError("--database", error.wrong, error.allowed) from None


def _embedded(create: bool) -> str:
    from evc.store.database import embedded_url

    folder = Path(os.environ.get(STATE_VARIABLE) or DEFAULT_STATE_FOLDER).absolute()
    try:
        if create:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(STATE_VARIABLE, f"{folder}: {error.strerror}", "a folder that can be made") from None
    if not create and not (folder / "metrics.db").is_file():
        raise InputError(
            "metrics database",
            f"there is none in {folder}",
            f"--database URL, the variable {DATABASE_VARIABLE}, or a folder in which make demo or evc db upgrade ran",
        )
    return embedded_url(folder)


def _require_node(connection: Connection, name: str, removed: bool = False) -> None:
    from evc.fleet.nodes import quote
    from evc.store.nodes import node_rows

    if all(row["name"] != name for row in node_rows(connection, removed)):
        raise InputError("node", f"{quote(name)} is not registered", "a name that `evc nodes` lists")


def _nodes(connection: Connection, arguments: argparse.Namespace) -> Sequence[Row]:
    from evc.store.nodes import node_rows

    return node_rows(connection, pending=True)


def _samples(connection: Connection, arguments: argparse.Namespace) -> Sequence[Row]:
    from evc.store.samples import sample_rows

    _require_node(connection, arguments.node)
    return sample_rows(connection, arguments.node, arguments.limit)


def _events(connection: Connection, arguments: argparse.Namespace) -> Sequence[Row]:
    from evc.store.events import event_rows

    if arguments.node is not None:
        _require_node(connection, arguments.node, removed=True)
    return event_rows(connection, node=arguments.node, kind=arguments.kind, limit=arguments.limit)


def _rollouts(connection: Connection, arguments: argparse.Namespace) -> Sequence[Row]:
    from evc.store.rollouts import rollout_rows

    return rollout_rows(connection, arguments.limit)


def _rollout_nodes(connection: Connection, arguments: argparse.Namespace) -> Sequence[Row]:
    from evc.store.rollout_nodes import rollout_node_rows
    from evc.store.rollouts import find_rollout

    if find_rollout(connection, rollout_id=arguments.rollout) is None:
        raise InputError("ID", f"there is no roll-out {arguments.rollout}", "one that `evc rollouts` lists")
    return rollout_node_rows(connection, arguments.rollout)


def _rollouts_command(arguments: argparse.Namespace) -> None:
    if (arguments.action is None) != (arguments.rollout is None):
        raise InputError("rollouts", "an action needs the id of a roll-out", "e.g. evc rollouts abort 7")
    if arguments.action is None:
        _show(arguments)
    elif arguments.action == "nodes":
        arguments.rows, arguments.columns, arguments.what = _rollout_nodes, ROLLOUT_NODES, "nodes"
        _show(arguments)
    else:
        _control(arguments)


def _control(arguments: argparse.Namespace) -> None:
    import time

    from evc.store.database import check_schema, reporting
    from evc.store.rollouts import control_rollout

    engine = open_database(arguments.database)
    with reporting():
        check_schema(engine)
        with engine.begin() as connection:
            line = control_rollout(connection, arguments.rollout, None, arguments.action, int(time.time()))
    if arguments.json:
        print_json([{"rollout": arguments.rollout, "action": arguments.action, "message": line}], sys.stdout)
    else:
        print(line)


def _show(arguments: argparse.Namespace) -> None:
    from evc.store.database import check_schema, reporting

    engine = open_database(arguments.database)
    with reporting():
        check_schema(engine)
        with engine.connect() as connection:
            rows = arguments.rows(connection, arguments)
    if arguments.json:
        print_json(rows, sys.stdout)
    elif rows:
        print_table(rows, arguments.columns, sys.stdout)
    else:
        print(f"no {arguments.what}", file=sys.stderr)


def _upgrade(arguments: argparse.Namespace) -> None:
    from evc.store.database import reporting, upgrade

    with reporting():
        before, after = upgrade(open_database(arguments.database, create=True))
    if arguments.json:
        print_json([{"from": before, "to": after}], sys.stdout)
    elif before == after:
        print(f"metrics database: at {after} already")
    else:
        print(f"metrics database: upgraded from {before or 'nothing'} to {after}")


def _reader(arguments: argparse.Namespace) -> None:
    import secrets

    from evc.store.database import reporting
    from evc.store.readers import let_read

    given = sys.stdin.readline().rstrip("\n") if arguments.password_stdin else None
    if given == "":
        raise InputError("reader", "no password came on standard input", "one line with it")
    password = given or secrets.token_urlsafe(24)
    with reporting():
        let_read(open_database(arguments.database), arguments.login, password)
    if arguments.json:
        print_json([{"login": arguments.login, **({} if given else {"password": password})}], sys.stdout)
    else:
        print(f"{arguments.login} may read the metrics database" if given else password)


# -- the private registry ---------------------------------------------------------------------------------------------


def _registry_folder(given: str | None = None) -> RegistryFolder:
    from evc.registry.folder import RegistryFolder

    given = given or os.environ.get(REGISTRY_VARIABLE)
    state = Path(os.environ.get(STATE_VARIABLE) or DEFAULT_STATE_FOLDER)
    return RegistryFolder(Path(given).expanduser() if given else state / "registry")


def _face(arguments: argparse.Namespace) -> Face:
    folder = _registry_folder(arguments.folder)
    return folder.read_write if arguments.read_write else folder.pull_only


def _registry_client(arguments: argparse.Namespace) -> RegistryClient:
    """Return a client of the registry that the environment names, else of the one in its folder.

    :raises InputError: neither names one, or what it says does not fit
    """
    from evc.fleet.connections import read_connection
    from evc.registry.connection import ALLOWED, registry_connection

    value, where = os.environ.get(REGISTRY_CONNECTION_VARIABLE), "connection evc_registry"
    if value:
        return registry_connection(where, read_connection(where, value, ALLOWED)).client()
    # the folder beside the embedded database belongs to that: with another database it may be another fleet's
    is_embedded = not arguments.database and not os.environ.get(DATABASE_VARIABLE)
    found = _registry_folder().connection() if is_embedded or os.environ.get(REGISTRY_VARIABLE) else None
    if found is None:
        allowed = f"the variable {REGISTRY_CONNECTION_VARIABLE} or {REGISTRY_VARIABLE}"
        raise InputError(where, "is not defined", allowed)
    return registry_connection(where, found).client()


def _init_registry(arguments: argparse.Namespace) -> None:
    from evc.registry.folder import Wanted

    folder = _registry_folder(arguments.folder)
    fields = ("port", "pull_port", "pull_address", "renew", "new_password")
    made = folder.init(Wanted(names=arguments.names, **{name: getattr(arguments, name) for name in fields}))
    if arguments.json:
        print_json([_made_row(folder, made)], sys.stdout)
        return
    for line in made.done or ["all is there and good for long: nothing changed"]:
        print(line)
    names = ", ".join(made.certificate.names)
    print(f"certificate: {names}, valid until {made.certificate.expires:%Y-%m-%d}")
    print(f"faces: read-write {made.address}, pull-only {made.pull_address}\n")
    if made.restart:
        print("next: start both faces again: they read certificate and configuration when they start")
        return
    path = shlex.quote(str(folder.path))
    print(
        "next (docs/registry.md):\n"
        f"  cd {path} && docker-registry serve {folder.read_write.config_file.name}\n"
        f"  cd {path} && docker-registry serve {folder.pull_only.config_file.name}\n"
        f'  export AIRFLOW_CONN_EVC_REGISTRY="$(cat {shlex.quote(str(folder.connection_file))})"\n'
        f"  export {REGISTRY_VARIABLE}={shlex.quote(str(folder.path.absolute()))}"
    )


def _made_row(folder: RegistryFolder, made: Made) -> Row:
    return {
        "folder": str(folder.path.absolute()),
        "names": list(made.certificate.names),
        "expires_ts": int(made.certificate.expires.timestamp()),
        "address": made.address,
        "pull_address": made.pull_address,
        "connection_file": str(folder.connection_file.absolute()),
        "done": made.done,
        "restart": made.restart,
    }


def _accounts(arguments: argparse.Namespace) -> None:
    folder = _registry_folder(arguments.folder)
    faces = (folder.read_write, folder.pull_only)
    rows = [{"login": login, "face": face.name} for face in faces for login in face.accounts.logins()]
    if arguments.json:
        print_json(rows, sys.stdout)
    else:
        print_table(rows, ACCOUNTS, sys.stdout)


def _grant(arguments: argparse.Namespace) -> None:
    face = _face(arguments)
    password = face.accounts.grant(arguments.login)
    if arguments.json:
        print_json([{"login": arguments.login, "face": face.name, "password": password}], sys.stdout)
    else:
        print(password)


def _revoke(arguments: argparse.Namespace) -> None:
    face = _face(arguments)
    revoked = face.accounts.revoke(arguments.login)
    if arguments.json:
        print_json([{"login": arguments.login, "face": face.name, "revoked": revoked}], sys.stdout)
    else:
        print(f"{printable(arguments.login)}: {'revoked' if revoked else 'had no account'} on the {face.name} face")


# -- scenarios ---------------------------------------------------------------------------------------------------------


def _read_scenario(file: Path) -> Scenario:
    from evc.fleet.scenarios import read_scenario

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(str(file), f"can't be read: {error.strerror}", "a scenario, a YAML file") from None
    return read_scenario(str(file), data)


def _check_scenarios(arguments: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    for file in arguments.files:
        scenario = _read_scenario(file)
        steps = [name for name in ("collect", "build", "rollout", "inference", "identities") if getattr(scenario, name)]
        rows.append({"file": str(file), "dag_id": f"scenario_{file.name.partition('.')[0]}", "steps": steps})
    if arguments.json:
        print_json(rows, sys.stdout)
        return
    for row in rows:
        print(f"{printable(row['file'])}: fits: {row['dag_id']}: {', '.join(row['steps'])}")


def _models_folder(arguments: argparse.Namespace) -> Path:
    """Return where model sources are: as the setting says, beside the scenarios' folder, or beside Airflow's DAGs."""
    said = arguments.models or os.environ.get("AIRFLOW__EVC__MODELS_FOLDER")
    beside: Path = arguments.file.absolute().parent.parent / "models"
    dags = os.environ.get("AIRFLOW__CORE__DAGS_FOLDER")
    if said or beside.is_dir() or not dags:
        return Path(said or beside)
    return Path(dags).parent / "include" / "models"


def _plan_scenario(arguments: argparse.Namespace) -> None:
    from contextlib import ExitStack
    from dataclasses import asdict

    from evc.building.images import Images
    from evc.building.outlook import outlook
    from evc.store.database import check_schema, reporting

    scenario = _read_scenario(arguments.file)
    models = _models_folder(arguments)
    engine = open_database(arguments.database)
    with reporting(), ExitStack() as end:
        check_schema(engine)
        client, why = None, None
        try:
            client = end.enter_context(_registry_client(arguments))
        except InputError as error:
            why = str(error)
        connection = end.enter_context(engine.connect())
        found = outlook(connection, scenario, models, Images(connection, client, why))
    if arguments.json:
        print_json([asdict(found)], sys.stdout)
        return
    print(f"nodes: {len(found.nodes)}: {', '.join(found.nodes)}")
    if found.build:
        print(f"build: {printable(found.build)}")
    print(f"image: {found.image or 'what is deployed on each node'}{f', {found.digest}' if found.digest else ''}")
    if found.registry or found.registry_why:
        print(f"registry: {printable(_registry_line(found))}")
    for number, names in enumerate(found.waves, 1):
        print(f"wave {number}: {len(names)}: {', '.join(names)}")
    if found.waves:
        print(f"have it already: {', '.join(found.has_it) or 'none'}")
    if scenario.inference:
        print(f"inference: {scenario.inference.input or 'as the model does without an input'}")


def _registry_line(found: Outlook) -> str:
    import time

    if found.registry:
        return f"{found.registry}, asked now"
    if found.registry_ts is None:
        return f"not asked, and sync_registry has seen no image yet: {found.registry_why}"
    age = _duration(max(0, time.time() - found.registry_ts))
    return f"not asked; as sync_registry saw it {age} ago, {_time(found.registry_ts)}: {found.registry_why}"


# -- the command line ------------------------------------------------------------------------------------------------


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000000")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 65535")
    return int(text)


class _Version(argparse.Action):
    """Looked up only where it is asked for: that takes longer than the rest of the command line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"evc {version('edge-vision-cluster')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    in_json = argparse.ArgumentParser(add_help=False)
    in_json.add_argument("--json", action="store_true", help="one JSON array in place of text")
    shared = argparse.ArgumentParser(add_help=False, parents=[in_json])
    shared.add_argument(
        "--database",
        metavar="URL",
        help="metrics database, as SQLAlchemy URL or Airflow connection URI; default: what the variable "
        f"{DATABASE_VARIABLE} holds, else metrics.db in the folder {DEFAULT_STATE_FOLDER}, or in the one that "
        f"{STATE_VARIABLE} names. A password given here is seen in the process list; one in the variable is not",
    )
    parser = argparse.ArgumentParser(prog="evc", description="The fleet of edge nodes, from its metrics database.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: str, **defaults: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does, description=does, parents=[shared])
        made.set_defaults(run=_show, what=name, **defaults)
        return made

    command("nodes", "the registered nodes, and removed ones that are not cleaned yet", rows=_nodes, columns=NODES)
    samples = command("samples", "the last samples of a node, newest first", rows=_samples, columns=SAMPLES)
    samples.add_argument("node", metavar="NODE", help="its name")
    samples.add_argument("--limit", type=_limit, default=10, metavar="N", help="how many at most (default: 10)")
    events = command("events", "what happened to nodes, newest first", rows=_events, columns=EVENTS)
    events.add_argument("--node", metavar="NODE", help="only of this node")
    events.add_argument("--kind", metavar="KIND", help="only of this kind, e.g. down")
    events.add_argument("--limit", type=_limit, default=50, metavar="N", help="how many at most (default: 50)")
    rollouts = command("rollouts", "roll-outs, newest first; or end, pause or look into one", rows=_rollouts)
    rollouts.set_defaults(run=_rollouts_command, columns=ROLLOUTS)
    rollouts.add_argument(
        "action", nargs="?", choices=["nodes", "pause", "resume", "abort"], help="what to do with one"
    )
    rollouts.add_argument("rollout", nargs="?", type=_limit, metavar="ID", help="its id")
    rollouts.add_argument("--limit", type=_limit, default=20, metavar="N", help="how many at most (default: 20)")
    does = "the metrics database: its tables, and who may read them"
    of_database = commands.add_parser("db", help=does, description=f"{does[0].upper()}{does[1:]}.")
    database = of_database.add_subparsers(required=True, metavar="COMMAND")
    does = "create its tables, or bring those of an older version to this one; safe to run twice"
    upgrade = database.add_parser("upgrade", help=does, description=f"{does[0].upper()}{does[1:]}.", parents=[shared])
    upgrade.set_defaults(run=_upgrade)
    _add_reader(database, shared)
    _add_registry(commands, in_json)
    _add_scenario(commands, in_json, shared)
    return parser


def _add_reader(database: Any, shared: argparse.ArgumentParser) -> None:
    does = "make a login of PostgreSQL that may only read, for Grafana"
    more = " Prints its password. Run again, it gives the login another password."
    reader = database.add_parser(
        "reader", help=does, description=f"{does[0].upper()}{does[1:]}.{more}", parents=[shared]
    )
    reader.add_argument("login", metavar="LOGIN", help="its name: a-z, 0-9 and _")
    reader.add_argument(
        "--password-stdin", action="store_true", help="take the password from standard input; none is printed"
    )
    reader.set_defaults(run=_reader)


def _add_registry(commands: Any, in_json: argparse.ArgumentParser) -> None:
    where = argparse.ArgumentParser(add_help=False, parents=[in_json])
    where.add_argument(
        "--folder",
        metavar="DIR",
        help=f"the registry's folder; default: what the variable {REGISTRY_VARIABLE} holds, else registry in the "
        f"folder {DEFAULT_STATE_FOLDER}, or in the one that {STATE_VARIABLE} names",
    )
    does = "the private image registry: its certificates, configuration and accounts"
    registry = commands.add_parser("registry", help=does, description=f"Keeps {does}. See docs/registry.md.")
    registry = registry.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], does: str, more: str = "") -> Any:
        made = registry.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.{more}", parents=[where])
        made.set_defaults(run=run)
        return made

    init = command(
        "init",
        _init_registry,
        "make the registry's folder, or renew what is due in it",
        " Makes a certificate authority, a server certificate, the configurations of the read-write and of the "
        "pull-only face, their accounts, and connection.json: the Airflow connection evc_registry, password included. "
        "Run again, it renews the certificate when less than 30 days are left, changes what an option asks for, and "
        "keeps all else; the authority is never replaced.",
    )
    init.add_argument(
        "--name",
        metavar="HOST",
        action="append",
        default=[],
        dest="names",
        help="DNS name or IP address under which nodes, builders or Airflow reach the registry; once for each. The "
        "first is the one in the names of images. Needed the first time; given later, these replace the former ones",
    )
    init.add_argument("--port", type=_port, metavar="N", help="of the read-write face (the first time: 5000)")
    init.add_argument("--pull-port", type=_port, metavar="N", help="of the pull-only face (the first time: 5001)")
    init.add_argument(
        "--pull-address",
        metavar="HOST:PORT",
        help="how nodes reach the pull-only face, where that is not the first name and its port",
    )
    init.add_argument("--renew", action="store_true", help="a new server certificate, however long the present is good")
    init.add_argument("--new-password", action="store_true", help="a new password of the read-write account")

    def account(name: str, run: Callable[[argparse.Namespace], None], does: str) -> None:
        made = command(name, run, does, " It counts from the next request on, without a restart.")
        made.add_argument("login", metavar="LOGIN", help="the account's name; of a node: the node's")
        made.add_argument("--read-write", action="store_true", help="on the read-write face; default: on the pull-only")

    command("accounts", _accounts, "list who may log in to which face")
    account("grant", _grant, "let someone in with a new password, which is printed; a former one stops counting")
    account("revoke", _revoke, "let someone in no more")


def _add_scenario(commands: Any, in_json: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    does = "scenarios: YAML files that become DAGs"
    scenario = commands.add_parser("scenario", help=does, description=f"Looks at {does}. See docs/scenarios.md.")
    scenario = scenario.add_subparsers(required=True, metavar="COMMAND")
    does = "say whether files fit, as Airflow will; the first that does not is told with line and key"
    check = scenario.add_parser("check", help=does, description=f"{does[0].upper()}{does[1:]}.", parents=[in_json])
    check.set_defaults(run=_check_scenarios)
    check.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a scenario, YAML")
    does = "show what a run would do now, without doing it"
    more = (
        " Nodes and builds are taken from the metrics database. Which image a tag leads to is asked of the registry, "
        f"which the variable {REGISTRY_CONNECTION_VARIABLE} or the registry's folder names; where it does not answer, "
        "what sync_registry saw last counts, and that is said."
    )
    plan = scenario.add_parser("plan", help=does, description=f"{does[0].upper()}{does[1:]}.{more}", parents=[shared])
    plan.set_defaults(run=_plan_scenario)
    plan.add_argument("file", metavar="FILE", type=Path, help="a scenario, YAML")
    plan.add_argument(
        "--models",
        metavar="DIR",
        help="model sources; default: AIRFLOW__EVC__MODELS_FOLDER, else models beside the scenarios' folder",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it worked, 1 where an error of EVC's says why not, 2 where the command line is wrong."""
    arguments = _parser().parse_args(argv)
    # a terminal that can't show a character gets its escape, not a traceback
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except EvcError as error:
        print(f"evc: {printable(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # the reader, e.g. head, has seen enough; what is left in the buffer must not be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        print(f"evc: standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0

"""``python -m demo up``, ``down``, and ``node``, which is what ``up`` starts for each of its nodes."""

from __future__ import annotations

import argparse
import os
import sys

from demo.state import State, default_state
from evc.errors import EvcError


def _up(state: State, arguments: argparse.Namespace) -> None:
    from demo.up import up

    up(state)


def _down(state: State, arguments: argparse.Namespace) -> None:
    from demo.down import down

    down(state)


def _node(state: State, arguments: argparse.Namespace) -> None:
    from demo.server import serve

    serve(state, arguments.name, arguments.ports)


def main() -> int:
    """Run one of the commands; 0 where it did its work, 1 where it says why not."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what does not run, register the nodes, show samples").set_defaults(run=_up)
    commands.add_parser("down", help="end all that up started; the data stay").set_defaults(run=_down)
    node = commands.add_parser("node", help="be one node until SIGTERM")
    node.add_argument("name")
    node.add_argument("ports", type=int, nargs="+", metavar="port", help="the first free one of these is its own")
    node.set_defaults(run=_node)
    arguments = parser.parse_args()
    try:
        arguments.run(default_state(), arguments)
        sys.stdout.flush()
    except EvcError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # who read our lines has gone; what is left of them must not be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\ndemo: stopped waiting; make demo goes on from here, make demo-stop ends what runs", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

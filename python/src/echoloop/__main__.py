"""The command line: ``python -m echoloop serve``.

The rule: what went wrong is one line on standard error; exit code 1, or 2 when the command itself
was not understood.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import Error, __version__
from ._serve import EchoService, problem_of, say


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns the exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(format="echoloop: %(message)s")
    raise_descriptor_limit()
    try:
        EchoService(args.idle_timeout, args.max_connections).serve(
            args.listen or ["127.0.0.1:7007"]
        )
    except (OSError, ValueError, Error) as error:
        say(f"echoloop: {problem_of(error)}", sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments and their help."""
    top = argparse.ArgumentParser(
        prog="python -m echoloop",
        description="One non-blocking network event loop, and an echo server to see it at work.",
    )
    top.add_argument("--version", action="version", version=f"echoloop {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run an echo server",
        description="Runs an echo server (RFC 862): what a client sends comes back to it.",
    )
    serve.add_argument(
        "--listen",
        action="append",
        metavar="ADDR",
        help="where to listen, such as 127.0.0.1:7007 (the default) or [::1]:7007; port 0 takes any"
        " free port; may be given several times",
    )
    serve.add_argument(
        "--idle-timeout",
        type=seconds,
        metavar="SECONDS",
        help="close a connection on which nothing moved for so long",
    )
    serve.add_argument(
        "--max-connections",
        type=positive,
        metavar="N",
        help="refuse further connections while so many are open",
    )
    return top


def seconds(text: str) -> float:
    """A number of seconds above 0.

    >>> seconds("0.5")
    0.5
    """
    value = float(text)
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError("write a number of seconds above 0, such as 30 or 0.5")
    return value


def positive(text: str) -> int:
    """A whole number above 0.

    >>> positive("100")
    100
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("write a number above 0")
    return value


def raise_descriptor_limit() -> None:
    """Lifts the soft limit of descriptors, which is often 1,024 for the sake of select(2)."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        logging.getLogger("echoloop").warning("the limit of descriptors stays: %s", error)


if __name__ == "__main__":
    sys.exit(main())

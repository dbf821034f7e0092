"""The command line: `kis analyse|covariance|edit|study|lifelong|forgetting|report|models|export|import|app …`.

From a checkout that is not installed: `python -m kis_core …`.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kis_core.commands import analysing, bundles, covariance, dashboard, editing, reporting
from kis_core.commands.line import WRONG_INPUT, ProgressLine, refuse
from kis_core.errors import KisError

__all__ = ["INTERRUPTED", "WRONG_INPUT", "ProgressLine", "main"]

INTERRUPTED = 130
NOTHING = re.compile(r"--?[a-z][a-z-]*=--")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for wrong input, 130 when interrupted."""
    given, parser = list(sys.argv[1:] if arguments is None else arguments), _parser()
    if nothing := next((argument for argument in given if NOTHING.fullmatch(argument)), None):
        parser.error(f"{nothing[:80]}: -- ends the options, and is no value")  # argparse trips on it
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with closing(ProgressLine()) as line:
            for output in args.command(args, line):
                line.close()
                sys.stdout.write(f"{output}\n")
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KisError, OSError) as error:
        return refuse(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; what was already computed is kept\n")
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    called = "kis" if Path(sys.argv[0]).stem == "kis" else "python -m kis_core"
    parser = argparse.ArgumentParser(prog=called, description="Knowledge superposition, measured.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for topic in (analysing, covariance, editing, reporting, bundles, dashboard):
        topic.add(commands)
    return parser


def program() -> None:
    """Run the command line as a program of its own."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())


if __name__ == "__main__":
    program()

"""The command line: `numfuse info`, `numfuse train` and `numfuse bench`."""

import argparse
import importlib
import sys

import numfuse

from ..data import DataError
from ..train import CheckpointError

COMMANDS = {  # modules of this package, a space being an underscore, with `add_arguments(parser)` and `run(args)`
    "info": "versions, instruction sets and threads",
    "train": "train a network, and compare the C kernels with NumPy",
    "bench": "time every kernel against NumPy",
    "bench learn": "time the training of a net to the same accuracy in several libraries",
}
EXTRAS = ("rich", "matplotlib", "sklearn")


class CommandError(Exception):
    """An error that the user can put right: shown as one line, without a traceback."""


def main(argv=None):
    """Run a command and return its exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:2] == ["bench", "learn"]:
        argv = ["bench learn", *argv[2:]]
    args, unknown = _parser(argv).parse_known_args(argv)
    if unknown:
        args.command.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return args.run(args)
    except (CommandError, DataError, CheckpointError) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except MemoryError:
        message = "out of memory"
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        message = f'{error.name} is needed and missing: pip install "numfuse[cli]"'
    except KeyboardInterrupt:
        print("numfuse: interrupted", file=sys.stderr)
        return 130
    print(f"numfuse: error: {message}", file=sys.stderr)
    return 2


def _parser(argv):
    parser = argparse.ArgumentParser(prog="numfuse", description=numfuse.__doc__)
    parser.add_argument("--version", action="version", version=f"numfuse {numfuse.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar=" | ".join(COMMANDS))
    chosen = next((arg for arg in argv if not arg.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:  # the imports of the others would take time
            module = importlib.import_module(f".{name.replace(' ', '_')}", __name__)
            module.add_arguments(command)
            command.set_defaults(run=module.run, command=command)
    return parser

"""`python -m benchmarks.estimate COMMAND`: results as JSON on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn

from benchmarks.estimate import compare, gpu, plot, scaling, stages
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import find_device


class OneLineParser(argparse.ArgumentParser):
    """Answers wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


# A command is a module with `add_options(parser)` and `run(arguments)`, which returns the JSON; what it looks like is
# in `plot.PANELS`.
COMMANDS = {"compare": compare, "scaling": scaling, "stages": stages, "gpu": gpu}


def main() -> None:
    """Run one command."""
    parser = OneLineParser(prog="python -m benchmarks.estimate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        sentence = (module.__doc__ or "").strip()
        module.add_options(commands.add_parser(name, help=sentence, description=sentence))
    drawing = commands.add_parser("plot", help=plot.__doc__, description=plot.__doc__)
    plot.add_options(drawing)
    arguments = parser.parse_args()
    try:
        if arguments.command == "plot":
            plot.draw(arguments.results, arguments.output)
        else:
            if getattr(arguments, "device", None) is not None:
                find_device(arguments.device)
            json.dump(COMMANDS[arguments.command].run(arguments), sys.stdout, indent=2)
            print()
    except (plot.ResultError, SettingsError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

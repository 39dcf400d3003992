"""Trains an unrolled encoder: `python -m dvfb_stream.reproduction.encoder_training --weights FILE --work FOLDER`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.waiting_threads import sleep_while_waiting


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    sleep_while_waiting()
    import torch

    from dvfb_stream.fbt import FourierBesselSettings
    from dvfb_stream.fbt.settings import PRESETS
    from dvfb_stream.reproduction.encoder_training.recipe import FITTING, EncoderRecipe, train
    from dvfb_stream.training.progress import ProgressLines

    recipe = EncoderRecipe()
    parser = argparse.ArgumentParser(
        prog="python -m dvfb_stream.reproduction.encoder_training", description=__doc__
    )
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file to write")
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder for solved problems (3 MB a geometry) and the checkpoint; run again with it to go on",
    )
    parser.add_argument(
        "--settings",
        choices=sorted(PRESETS),
        default="default",
        help="Fourier-Bessel settings to learn (default: %(default)s)",
    )
    parser.add_argument("--layers", type=int, help="steps of the encoder (default: the reading's)")
    parser.add_argument("--epochs", type=int, help="passes over the geometries (default: the reading's)")
    parser.add_argument("--seed", type=int, default=0, help="of the fit (default: %(default)s)")
    for name, help_text in (
        ("train_geometries", "experiments to learn from"),
        ("validation_geometries", "experiments to measure on"),
        ("frames", "of each experiment"),
    ):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(
            option, type=int, default=getattr(recipe, name), help=f"{help_text} (default: %(default)s)"
        )
    parser.add_argument(
        "--processes", type=int, default=1, help="simulating and solving at a time (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    options = parser.parse_args(arguments)
    lines = ProgressLines()
    try:
        if options.threads < 1:
            raise SettingsError(f"--threads must be at least 1, not {options.threads}")
        torch.set_num_threads(options.threads)
        fbt = FourierBesselSettings.preset(options.settings)
        changes = {name: getattr(options, name) for name in ("layers", "epochs", "seed")}
        fitting = dataclasses.replace(
            FITTING[fbt.reading], **{name: value for name, value in changes.items() if value is not None}
        )
        weights = train(
            EncoderRecipe(
                fbt=fbt,
                train_geometries=options.train_geometries,
                validation_geometries=options.validation_geometries,
                frames=options.frames,
                fitting=fitting,
            ),
            work=options.work,
            weights=options.weights,
            processes=options.processes,
            say=lines.say,
            on_problem=lambda which, done, total: lines.now_and_then(
                f"{which}: {done} of {total} geometries"
            ),
            on_step=lambda step, steps, loss: lines.now_and_then(f"step {step} of {steps}, loss {loss:.3f}"),
        )
    except (DvfbError, OSError) as error:
        sys.stderr.write(f"training: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("training: interrupted; the same command goes on behind the last finished epoch\n")
        return 130
    lines.say(f"{weights.sha256[:12]} in {options.weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

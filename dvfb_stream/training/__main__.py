"""Trains a bundle: `python -m dvfb_stream.training --bundle FOLDER`. Needs the engine's packages alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dvfb_stream.errors import DvfbError
from dvfb_stream.training.fitting import FittingSettings
from dvfb_stream.training.progress import ProgressLines
from dvfb_stream.training.recipe import Recipe, train


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m dvfb_stream.training", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder to write the bundle into")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/default"),
        help="folder for simulated shards and the checkpoint; run again with it to go on (default: %(default)s)",
    )
    parser.add_argument("--name", default=recipe.name, help="name of the bundle (default: %(default)s)")
    parser.add_argument("--version", default=recipe.version, help="its version (default: %(default)s)")
    for which in ("train", "validation", "test"):
        default = getattr(recipe, f"{which}_frames")
        parser.add_argument(f"--{which}-frames", type=int, default=default, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=recipe.fitting.epochs, help="(default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=recipe.fitting.seed, help="of the fit (default: %(default)s)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="simulating at a time (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="torch device to fit on (default: %(default)s)")
    options = parser.parse_args(arguments)
    lines = ProgressLines()
    try:
        bundle = train(
            Recipe(
                name=options.name,
                version=options.version,
                train_frames=options.train_frames,
                validation_frames=options.validation_frames,
                test_frames=options.test_frames,
                fitting=FittingSettings(epochs=options.epochs, seed=options.seed),
            ),
            work=options.work,
            bundle=options.bundle,
            processes=options.processes,
            device=options.device,
            say=lines.say,
            on_shard=lambda which, done, total: lines.now_and_then(f"{which}: {done} of {total} shards"),
            on_step=lambda step, steps, loss: lines.now_and_then(f"step {step} of {steps}, loss {loss:.4f}"),
        )
    except (DvfbError, OSError) as error:
        sys.stderr.write(f"training: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("training: interrupted; the same command goes on behind the last finished epoch\n")
        return 130
    scores = bundle.description.training["test"]["average_precision"]["joint"]
    lines.say(f"{bundle.identity} in {options.bundle}: test mAP {scores['mean']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Trains a bundle: `python -m dvfb_stream.training PRESET --work FOLDER`. Needs the engine's packages alone.

On several GPUs: `torchrun --nproc-per-node 4 -m dvfb_stream.training PRESET --work FOLDER --device cuda`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.waiting_threads import sleep_while_waiting


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    sleep_while_waiting()
    import torch

    from dvfb_stream.training.presets import PRESETS, SEEDS, preset
    from dvfb_stream.training.progress import ProgressLines
    from dvfb_stream.training.recipe import Reports, train

    parser = argparse.ArgumentParser(prog="python -m dvfb_stream.training", description=__doc__)
    parser.add_argument("preset", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder for frames, checkpoints and bundles of stages; run again with it to go on",
    )
    parser.add_argument("--bundle", type=Path, help="folder of the bundle (default: WORK/PRESET/bundle)")
    parser.add_argument("--name", help="of the bundle (default: the preset's)")
    parser.add_argument("--version", help="of the bundle (default: the preset's)")
    for which in ("train", "validation", "test"):
        parser.add_argument(f"--{which}-frames", type=int, help="(default: the preset's)")
    for name, kind in (
        ("epochs", int),
        ("batch-size", int),
        ("learning-rate", float),
        ("loss", str),
        ("patience", int),
    ):
        parser.add_argument(f"--{name}", type=kind, help="(default: the preset's)")
    parser.add_argument("--seed", type=int, help="of the fit (default: the preset's)")
    parser.add_argument("--fresh", action="store_true", help="new frames from the simulator every epoch")
    parser.add_argument(
        "--processes", type=int, default=1, help="simulating at a time (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="of the fit (default: torch's choice)")
    parser.add_argument("--device", default="cpu", help="torch device to fit on (default: %(default)s)")
    options = parser.parse_args(arguments)
    lines = ProgressLines()
    try:
        if options.threads is not None:
            if options.threads < 1:
                raise SettingsError(f"--threads must be at least 1, not {options.threads}")
            torch.set_num_threads(options.threads)
        recipe = preset(options.preset).changed(
            name=options.name,
            version=options.version,
            frames={which: getattr(options, f"{which}_frames") for which in SEEDS},
            fresh=options.fresh,
            fitting={
                name: getattr(options, name)
                for name in ("epochs", "batch_size", "learning_rate", "loss", "patience", "seed")
            },
        )
        bundle = train(
            recipe,
            work=options.work,
            bundle=options.bundle,
            processes=options.processes,
            device=options.device,
            reports=Reports(
                say=lines.say,
                on_block=lambda which, done, total: lines.now_and_then(
                    f"{which}: {done} of {total} blocks of frames"
                ),
                on_step=lambda epoch, step, steps, loss: lines.now_and_then(
                    f"epoch {epoch}, step {step} of {steps}, loss {loss:.4f}"
                ),
                on_epoch=lambda epoch: lines.say(str(epoch)),
            ),
        )
    except (DvfbError, OSError) as error:
        sys.stderr.write(f"training: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("training: interrupted; the same command goes on behind the last finished epoch\n")
        return 130
    test = bundle.description.training["test"]
    lines.say(f"{bundle.identity}: test mAP {test['average_precision'][test['output']]['mean']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Turns a folder of real frames with a `manifest.json` into a table of labels for `dvfb rank`.

    python -m benchmarks.real_frames FOLDER > FOLDER/labels.csv

Of each entry of the manifest: `file`, `beam_center_x`, `beam_center_y`, and in `labels_visible` true, false or (not
known) anything else for each label. Entries without `labels_visible` are left out.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from dvfb_stream.labels import LABELS


def main() -> None:
    """Read and print."""
    if len(sys.argv) != 2:
        sys.exit("give one folder that has a manifest.json")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["file", "center_x", "center_y", *LABELS])
    for entry in json.loads((Path(sys.argv[1]) / "manifest.json").read_text()):
        visible = entry.get("labels_visible")
        if visible:
            known = [{True: "1", False: "0"}.get(visible.get(label), "") for label in LABELS]
            table.writerow([entry["file"], entry["beam_center_x"], entry["beam_center_y"], *known])


if __name__ == "__main__":
    main()

"""One call that annotates history, and can be killed: ``python -m benchmarks.history.call URI LOG WORKERS``."""

from __future__ import annotations

import json
import sys

from benchmarks.history.kills import call

if __name__ == "__main__":
    print(json.dumps(call(sys.argv[1], sys.argv[2], int(sys.argv[3]))))

"""Inference by a runtime with what export.py writes, for benchmark.speed.

python -m benchmark.runtime_candidates ARGUMENTS (JSON: runtime, artifact, options, size)
"""

import json
import sys

import numpy as np

from benchmark.turns import serve
from deployment.runtimes import RUNTIMES


def main() -> None:
    arguments = json.loads(sys.argv[1])
    segment = RUNTIMES[arguments["runtime"]](arguments["artifact"], **arguments["options"])
    size = (*arguments["size"], 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    serve(lambda: segment(images))


if __name__ == "__main__":
    main()

"""Choose the near threshold of the model that ships, when the model or the gates have changed.

    python -m memcli.bench.calibrate PAIRS FOLDER

Writes calibration.json beside the model's card in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

from memcli.bench.dedup import calibrate, read_pairs
from memcli.embed.models import load_card, write_calibration
from memcli.embed.onnx import OnnxEmbedder

if __name__ == "__main__":
    labelled, model = (Path(argument) for argument in sys.argv[1:])
    write_calibration(model, calibrate(read_pairs(labelled), OnnxEmbedder(load_card(model))).to_json())

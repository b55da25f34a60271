"""The recording that `examples/fit_adex.py` fits where there is no NEST, anew.

python tests/reference/adex_nest.py
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))
import fit_adex as example  # noqa: E402

recording = example.record(example.DURATION, example.SEED)
np.savez_compressed(example.STORED, **recording._asdict())

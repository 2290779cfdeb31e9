"""The experiments as data: sweep files, their committed results, and what the paper reports."""

from pathlib import Path

HERE = Path(__file__).parent
PRESETS = ("paper", "paper-balanced")
"""Files for `deffd run`: one federation each."""

PARTS = ("on-test-set", "on-validation-split", "paper-results")
"""Files that others build on."""

SWEEPS = tuple(
    sorted(path.stem for path in HERE.glob("*.yaml") if path.stem not in {*PRESETS, *PARTS})
)
"""Files for `deffd sweep`."""

RESULTS = HERE / "results"

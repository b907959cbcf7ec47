"""Fuzz one target with atheris: `python fuzz/run.py TARGET --seconds 60` or `--runs 20000`. New inputs that reach new code go to --keep (a
temporary folder if not given); an input that breaks a promise is written to --finds and ends the run with an exit code that is not 0."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
MAX_INPUT = 4096  # bytes; a connection keeps 8 KiB, and long input is repetition (fuzz_targets.choices)
SLOW = 20  # seconds for one input: some 10 ms, and a machine that is busy with other things
MEMORY = 1024  # MiB


def main() -> None:
    """Parse the arguments; libFuzzer ends the process itself."""
    sys.path[:0] = [str(HERE), str(ROOT / "tests")]
    from fuzz_targets import NAMES, load

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=NAMES)
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--seconds", type=int, help="how long")
    amount.add_argument("--runs", type=int, help="how many inputs beyond the corpus, always the same ones")
    parser.add_argument("--keep", type=Path, help="folder for inputs that reach new code")
    parser.add_argument("--finds", type=Path, default=Path(tempfile.gettempdir()), help="folder for finds")
    arguments = parser.parse_args()

    import atheris

    with atheris.instrument_imports(include=["postwarden_sidecar"]):
        target = load(arguments.target)
    with tempfile.TemporaryDirectory(prefix="postwarden-fuzz-") as scratch:
        keep = arguments.keep or Path(scratch)
        for folder in (keep, arguments.finds):
            folder.mkdir(parents=True, exist_ok=True)
        limit = (
            [f"-max_total_time={arguments.seconds}"]
            if arguments.seconds
            else [f"-runs={arguments.runs}", "-seed=1"]
        )
        options = [
            *limit,
            f"-max_len={MAX_INPUT}",
            f"-timeout={SLOW}",
            f"-rss_limit_mb={MEMORY}",
            f"-dict={HERE / 'smtp.dict'}",
            f"-artifact_prefix={arguments.finds}/{arguments.target}-",
            "-verbosity=0",
        ]
        corpus = HERE / "corpus" / arguments.target
        atheris.Setup([sys.argv[0], *options, str(keep), str(corpus)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

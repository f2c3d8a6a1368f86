"""Coverage-guided fuzzing of what reads banks (`make fuzz`; Linux, the extra `fuzz`).

    python tests/fuzz/fuzz.py KIND [libFuzzer options]

KIND: manifest, mask, task, calibration, recogniser, projection, pack, frame

Anything but this project's own errors, more than 5 s for an input or more than 256 MiB in all ends the run, and the
input is left in build/fuzz/.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["impress_format", "damaged"]):
    import damaged

WORDS = (
    '"', '\\"', "{", "}", "[", "]", ",", ":", "null", "true", "-1", "0", "1e999", "0.5", "9007199254740992", "U8",
    "F16", "F32", "I64", "__metadata__", "impress", "dtype", "shape", "data_offsets", "alpha", "pixels", "a.weight",
    "digest", "format_version", "made_with", "preprocess",
    "class_names", "backbone", "layers", "masked", "masks", "density", "ones", "plan", "fit",
    "granularity", "U32", "own.text", "own.end", "common.text", "common.end", "common.of", "tasks", "named",
    "short", "\na2x2f\n", "s64", "r8", "x2e",
    "mean", "directions", "within", "between", "codes", "steps", "epochs", "bits", "holdout",
)  # fmt: skip


def main() -> None:
    kind = sys.argv[1]
    build = Path("build/fuzz")
    corpus = build / kind
    corpus.mkdir(parents=True, exist_ok=True)
    words = build / "words.txt"
    words.write_text("".join('"' + "".join(f"\\x{ord(c):02x}" for c in word) + '"\n' for word in WORDS))
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        target = damaged.make(Path(folder) / "a.impress", kind)
        for number, seed in enumerate(target.seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)

        def one(data: bytes) -> None:
            target.run(data)

        options = ["-rss_limit_mb=256", "-timeout=5", "-max_len=16384", "-len_control=0"]
        options += ["-print_final_stats=1", f"-dict={words}", f"-artifact_prefix={build}/{kind}-"]
        atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

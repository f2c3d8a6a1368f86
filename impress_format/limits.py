"""How large anything in a bank may be (docs/format.md, Limits). Checked before anything of that size is allocated."""

from __future__ import annotations

MIB = 1 << 20

MAX_MANIFEST_BYTES = 64 * MIB
MAX_TASK_BYTES = 64 * MIB
MAX_CALIBRATION_BYTES = 64 * MIB
"""256 images of 3 x 292 x 292."""
MAX_TASK_CLASSIFIER_BYTES = 4 * MIB
MAX_PROJECTION_BYTES = 64 * MIB
"""A projection of 1,024 directions of 2^14 features takes 20 MB."""
MAX_DIRECTIONS = 1_024
MAX_PACK_BYTES = 1024 * MIB
MAX_PACKED = 1 << 20
"""Tasks of one pack. A bank may have any number of packs."""
MAX_HEADER_BYTES = 1 * MIB
"""Header of one safetensors file; that of a mask of a network of 160 layers takes 20 kB."""

MAX_MASKS = 100_000
MAX_LAYERS = 4_096
MAX_AXES = 8
MAX_SIDE = 1 << 24
MAX_WEIGHTS = 1 << 30
"""All layers of a backbone together; ViT-H has 0.6 G. Drawing that many for the digest takes minutes."""
MAX_CLASSES = 1 << 20
MAX_PIXELS = 1 << 24
"""Values of one input image."""

MAX_JSON_DEPTH = 8
"""A manifest has five levels."""
MAX_JSON_MARKS = {b"{": 210_000, b"[": 10_000, b",": 1_250_000, b'"': 3_000_000, b"\\": 1 << 16}
"""Brackets, commas, quotes and escapes of one JSON document: no fewer than the largest manifest or header has."""
MAX_TEXT = 1_024
"""Characters of a name or a reference."""
MAX_CLASS_NAMES = 4 * MAX_TEXT
"""Bytes of the names that a task's record gives to its classes, all together; longer ones are a part of the task."""
MAX_STORED_NAMES = 16 * MIB
"""Bytes of the names that a part of a task gives to its classes."""
MAX_INTEGER = (1 << 53) - 1
"""Exact in every JSON reader."""
MAX_THREADS = 1024
"""CPU threads of one training."""

"""What a graph of ONNX draws its weights by: functions that are part of the graph, in ONNX's own text.

They are docs/format.md once more (Frozen weights, Residual) in operations that runtimes have on the CPU. None of them
depends on an image, so a runtime that folds constants computes them once, while it loads the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

PHILOX_FACTORS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
PHILOX_BUMPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
PHILOX_ROUNDS = 10
"""Constants of Philox-4x64-10 (Salmon et al. 2011)."""
DOMAIN = "impress"
LEAST_OPSET = 18
"""The first that has operations on bits."""

_HALVES = """
Halves (x) => (low, high) {
  m = Constant <value = uint64 {4294967295}> ()
  s = Constant <value = uint64 {32}> ()
  low = BitwiseAnd (x, m)
  high = BitShift <direction = "RIGHT"> (x, s)
}"""
_PRODUCT = """
Product (a, b) => (high, low) {
  low = Mul (a, b)
  a0, a1 = impress.Halves (a)
  b0, b1 = impress.Halves (b)
  p = Mul (a0, b0)
  q = Mul (a0, b1)
  r = Mul (a1, b0)
  t = Mul (a1, b1)
  p0, p1 = impress.Halves (p)
  q0, q1 = impress.Halves (q)
  r0, r1 = impress.Halves (r)
  u = Add (q0, r0)
  v = Add (u, p1)
  v0, v1 = impress.Halves (v)
  w = Add (q1, r1)
  x = Add (w, t)
  high = Add (x, v1)
}"""
_TURN = """
Turn (a, b, c, d, k, l) => (e, f, g, h, m, n) {
  n0 = Constant <value = uint64 {FACTOR0}> ()
  n1 = Constant <value = uint64 {FACTOR1}> ()
  w0 = Constant <value = uint64 {BUMP0}> ()
  w1 = Constant <value = uint64 {BUMP1}> ()
  high0, h = impress.Product (n0, a)
  high1, f = impress.Product (n1, c)
  x = BitwiseXor (high1, b)
  e = BitwiseXor (x, k)
  y = BitwiseXor (high0, d)
  g = BitwiseXor (y, l)
  m = Add (k, w0)
  n = Add (l, w1)
}"""
_FIELDS = """
Fields (x, shifts, mask) => (fields) {
  last = Constant <value = int64[1] {-1}> ()
  y = Unsqueeze (x, last)
  z = BitShift <direction = "RIGHT"> (y, shifts)
  w = BitwiseAnd (z, mask)
  fields = Reshape (w, last)
}"""
_SIGNS = """
Signs (words) => (signs) {
  one = Constant <value = uint64 {1}> ()
  half = Constant <value = float {0.5}> ()
  first = Constant <value = int64 {0}> ()
  end = Constant <value = int64 {64}> ()
  step = Constant <value = int64 {1}> ()
  n = Range (first, end, step)
  shifts = Cast <to = 13> (n)
  bits = impress.Fields (words, shifts, one)
  x = Cast <to = 1> (bits)
  y = Sub (x, half)
  signs = Add (y, y)
}"""
_HASHES = """
Hashes (words) => (hashes) {
  low = Constant <value = uint64 {4294967295}> ()
  s = Constant <value = uint64[2] {0, 32}> ()
  hashes = impress.Fields (words, s, low)
}"""
_PLACES = """
Places (hashes, count, first) => (places) {
  s = Constant <value = uint64 {32}> ()
  x = Mul (hashes, count)
  y = BitShift <direction = "RIGHT"> (x, s)
  z = Cast <to = 7> (y)
  places = Add (z, first)
}"""
_LEVELS = """
Levels (codes, shifts, mask, top) => (levels) {
  x = Cast <to = 13> (codes)
  y = impress.Fields (x, shifts, mask)
  z = Cast <to = 1> (y)
  w = Add (z, z)
  levels = Sub (w, top)
}"""
_BITS = """
Bits (bytes, end) => (bits) {
  s = Constant <value = uint64[8] {0, 1, 2, 3, 4, 5, 6, 7}> ()
  one = Constant <value = uint64 {1}> ()
  zero = Constant <value = int64[1] {0}> ()
  x = Cast <to = 13> (bytes)
  y = impress.Fields (x, s, one)
  z = Slice (y, zero, end)
  bits = Cast <to = 7> (z)
}"""
_ONES = """
Ones (unary, unaryend, low, lowend, powers, base, ones) => (places) {
  last = Constant <value = int64[1] {-1}> ()
  axis = Constant <value = int64[1] {1}> ()
  first = Constant <value = int64[1] {0}> ()
  zero = Constant <value = int64 {0}> ()
  one = Constant <value = int64 {1}> ()
  u = impress.Bits (unary, unaryend)
  rank = CumSum <exclusive = 1> (u, zero)
  all = Size (u)
  index = Range (zero, all, one)
  gap = Sub (index, rank)
  behind = Add (gap, ones)
  set = Cast <to = 9> (u)
  where = Where (set, rank, behind)
  sorted = ScatterElements (index, where, gap)
  high = Slice (sorted, first, ones)
  x = impress.Bits (low, lowend)
  each = Shape (powers)
  shape = Concat <axis = 0> (last, each)
  y = Reshape (x, shape)
  z = Mul (y, powers)
  rest = ReduceSum <keepdims = 0> (z, axis)
  w = Mul (high, base)
  places = Add (w, rest)
}"""
"""The unary part is sorted by its bits, which are set for ones: so the gaps before each of them come first. (NonZero
would find them at once, but onnxruntime computes it anew for every image.)"""


def _words() -> str:
    """`Words (keys, starts, blocks)`: the words of Philox streams, four a block, one stream after the other.

    `keys` (streams, 2), `starts` the first block of each, `blocks` how many there are in all.
    """
    lines = [
        "zero = Constant <value = int64 {0}> ()",
        "one = Constant <value = int64 {1}> ()",
        "axis = Constant <value = int64[1] {1}> ()",
        "flat = Constant <value = int64[1] {-1}> ()",
        "none = Constant <value = uint64 {0}> ()",
        "n = Range (zero, blocks, one)",
        "nothing = Mul (n, zero)",
        "some = Mul (starts, zero)",
        "each = Add (some, one)",
        "marks = ScatterElements (nothing, starts, each)",
        "through = CumSum (marks, zero)",
        "stream = Sub (through, one)",
        "start = Gather (starts, stream)",
        "before = Sub (n, start)",
        "block = Add (before, one)",
        "a0 = Cast <to = 13> (block)",
        "b0 = Mul (a0, none)",
        "c0 = Identity (b0)",
        "d0 = Identity (b0)",
        "key = Gather (keys, stream)",
        "left, right = Split <axis = 1, num_outputs = 2> (key)",
        "k0 = Squeeze (left, axis)",
        "l0 = Squeeze (right, axis)",
    ]
    for turn in range(PHILOX_ROUNDS):
        before, after = (", ".join(f"{name}{turn + step}" for name in "abcdkl") for step in (0, 1))
        lines.append(f"{after} = impress.Turn ({before})")
    lines += [f"{name} = Unsqueeze ({name}{PHILOX_ROUNDS}, axis)" for name in "abcd"]
    lines += ["w = Concat <axis = 1> (a, b, c, d)", "words = Reshape (w, flat)"]
    return "Words (keys, starts, blocks) => (words) {\n" + "\n".join(lines) + "\n}"


def functions(opset: int, called: Iterable[str]) -> list[onnx.FunctionProto]:
    """The functions of these names and those that they call, each after those.

    Args:
        opset: the version of ONNX's operations that the graph has.
    """
    import onnx.parser

    head = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}, "{DOMAIN}" : 1]>\n'
    turn = _TURN
    for which in (0, 1):
        turn = turn.replace(f"FACTOR{which}", str(PHILOX_FACTORS[which]))
        turn = turn.replace(f"BUMP{which}", str(PHILOX_BUMPS[which]))
    texts = [_HALVES, _PRODUCT, turn, _words(), _FIELDS, _SIGNS, _HASHES, _PLACES, _LEVELS, _BITS, _ONES]
    every = [onnx.parser.parse_function(head + text.strip()) for text in texts]
    needed, kept = set(called), list[onnx.FunctionProto]()
    for function in reversed(every):  # none calls one after it
        if function.name in needed:
            kept.append(function)
            needed.update(node.op_type for node in function.node if node.domain == DOMAIN)
    return kept[::-1]

"""How the house stands: who knows which part of a task, rooms and the circles among them, widest function, lines.

    python tests/benchmarks/house.py [--rev GIT_REV] [--root FOLDER] [--json] [--who] [--edges]

Measured by imports and names in the syntax tree of impress_format, impress_learn and impress_cli; docstrings and
comments do not count. Without `--rev` it is the tree that this file stands in.

- A file *knows* a part of a task that is named by one of its identifiers, attributes or keyword arguments, by a string
  that is a name (`"head_bits"`, not a sentence), or by a module that it imports. A name is taken apart at `_`, `-`, `.`
  and capitals, so that `header` is no head. Files that are called as the part, or lie in a folder that is, are its own.
- A *room* is a module or a folder directly in a package, but for `__init__`. Imports of rooms that reach each other lie
  in a circle, those inside functions too; the fewest of them that point upward in any order of the rooms are listed.
- The *widest* function has most parameters; names with `_` are private, `self` and `cls` do not count.

`--who` names the files that know a part, `--edges` the imports in a circle.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

PACKAGES = ("impress_cli", "impress_learn", "impress_format")
ROOMY = ("impress_learn", "impress_format")
"""Packages whose rooms are counted; those of impress_cli are its commands."""


@dataclass(frozen=True)
class Part:
    """A part of a task.

    Attributes:
        names: any of which a name holds as a whole piece, or as several in a row: `own_mask`.
        own: what its own files or folders are called.
        whole: names that count only if they are all of a name, since networks have such things too.
    """

    names: tuple[str, ...]
    own: tuple[str, ...]
    whole: tuple[str, ...] = ()


PARTS = {
    "alpha": Part(("alpha", "alphas"), ("alpha", "numbers")),
    "residual": Part(("residual", "residuals"), ("residual",)),
    "head": Part(("head", "heads", "headed"), ("head",)),
    "own mask": Part(("hybrid", "own_mask", "own_masks"), ("own_mask", "hybrid")),
    "signature": Part(
        ("signature", "signatures"),
        ("signature", "signatures", "pixel_signature", "feature_signature", "signing", "signature_maker"),
    ),
    "norm": Part(("norm_bits", "norm_part", "norm_parts", "stored_norm"), ("norm", "norms"), ("norm",)),
}
"""What knows each part is counted by these words. `network/norm_statistics.py` is no part of a task."""

_NAME = re.compile(r"(?:--)?[A-Za-z_][\w.-]*")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")


@dataclass(frozen=True, order=True)
class Edge:
    """One import from a room of a package to another."""

    importer: str
    imported: str
    file: str
    line: int
    kind: str
    """`top`, `function`, or `typing` for those under TYPE_CHECKING."""


@dataclass(frozen=True)
class Rooms:
    """Rooms of a package, how many imports there are among them, and those in circles or upward in the best order."""

    rooms: list[str]
    imports: int
    circles: list[list[str]]
    in_circles: list[Edge]
    upward: list[Edge]


@dataclass(frozen=True)
class House:
    """All that is measured; keys are parts or packages."""

    known: dict[str, dict[str, int]]
    """Part -> file -> lines of it that name the part, its own files left out."""
    own: dict[str, list[str]]
    rooms: dict[str, Rooms]
    widest: dict[str, tuple[int, str]]
    lines: dict[str, int]
    longest: dict[str, tuple[int, str]]


def main() -> None:
    asked = _parse()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.root
        if asked.rev is not None:
            root = _unpack(asked.root, asked.rev, Path(folder))
        house = measure(root)
    if asked.json:
        print(json.dumps(asdict(house), indent=2))
    else:
        print("\n".join(describe(house, who=asked.who, edges=asked.edges)))


def measure(root: Path) -> House:
    """Measure the packages below `root`; those that are not there have no files."""
    files = {name: read_tree(root, name) for name in PACKAGES}
    everything = {file: tree for package in files.values() for file, tree in package.items()}
    lines = {
        name: {file: len((root / file).read_text(encoding="utf-8").splitlines()) for file in package}
        for name, package in files.items()
    }
    named = {file: list(find_names(tree)) for file, tree in everything.items()}
    longest = {name: max(((n, file) for file, n in counts.items()), default=(0, "")) for name, counts in lines.items()}
    return House(
        known={name: find_who_knows(part, named) for name, part in PARTS.items()},
        own={name: [file for file in everything if is_own(part, file)] for name, part in PARTS.items()},
        rooms={name: find_rooms(name, files[name]) for name in ROOMY},
        widest={name: find_widest(package) for name, package in files.items()},
        lines={name: sum(package.values()) for name, package in lines.items()},
        longest=longest,
    )


def read_tree(root: Path, package: str) -> dict[str, ast.Module]:
    """Syntax trees of all files of a package by their path from `root`."""
    return {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((root / package).rglob("*.py"))
    }


def find_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of all that is named in a file: identifiers, strings that are names, imported modules."""
    silent = {id(docstring) for docstring in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.end_lineno or node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield node.lineno, node.arg or ""
        elif isinstance(node, ast.alias):
            yield node.lineno, node.name
            yield node.lineno, node.asname or ""
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.MatchAs | ast.MatchStar):
            yield node.lineno, node.name or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield from ((node.lineno, name) for name in [node.value] if _NAME.fullmatch(name))


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    """Strings that stand alone: of modules, classes and functions, and below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def split_name(name: str) -> list[str]:
    """The pieces of a name: `StoredHead`, `head_bits`, `--head-bits`, `impress_format.parts.head`."""
    return [piece.lower() for piece in _PIECE.findall(name)]


def names_part(part: Part, name: str) -> bool:
    """Whether a name holds one of a part's."""
    pieces = split_name(name)
    joined = f"_{'_'.join(pieces)}_"
    return any(f"_{word}_" in joined for word in part.names) or "_".join(pieces) in part.whole


def is_own(part: Part, file: str) -> bool:
    """Whether a file is called as the part, or lies in a folder that is."""
    path = PurePosixPath(file)
    return not {*path.parts[:-1], path.stem}.isdisjoint(part.own)


def find_who_knows(part: Part, named: dict[str, list[tuple[int, str]]]) -> dict[str, int]:
    """Files that know a part, beside its own, and how many of their lines do."""
    lines = {
        file: len({line for line, name in names if names_part(part, name)})
        for file, names in named.items()
        if not is_own(part, file)
    }
    return {file: count for file, count in lines.items() if count}


def find_rooms(package: str, trees: dict[str, ast.Module]) -> Rooms:
    """Rooms of a package, and its imports in circles of them."""
    rooms = sorted({_room(file) for file in trees} - {"__init__"})
    edges = sorted(
        edge
        for file, tree in trees.items()
        for edge in _edges(package, file, tree, rooms)
        if edge.importer != edge.imported
    )
    circles = find_circles(rooms, edges)
    in_circles = [edge for edge in edges for circle in circles if {edge.importer, edge.imported} <= set(circle)]
    place = {room: index for circle in circles for index, room in enumerate(best_order(circle, in_circles))}
    upward = [edge for edge in in_circles if place[edge.imported] > place[edge.importer]]
    return Rooms(rooms, len(edges), circles, in_circles, upward)


def _room(file: str) -> str:
    return PurePosixPath(PurePosixPath(file).parts[1]).stem


def _edges(package: str, file: str, tree: ast.Module, rooms: list[str]) -> Iterator[Edge]:
    importer = _room(file)
    if importer not in rooms:
        return  # the package's own __init__ stands above all rooms
    inside = {id(one) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for one in ast.walk(node)}
    typing = {
        id(one)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for one in ast.walk(node)
    }
    for node in ast.walk(tree):
        modules = set[str]()
        if isinstance(node, ast.Import):
            modules = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise ValueError(f"{file}:{node.lineno}: a relative import, expected absolute ones")
        kind = "typing" if id(node) in typing else "function" if id(node) in inside else "top"
        for room in {name.split(".")[1] for name in modules if name.startswith(f"{package}.")}.intersection(rooms):
            yield Edge(importer, room, file, node.lineno, kind)  # type: ignore[attr-defined]


def find_circles(rooms: list[str], edges: list[Edge]) -> list[list[str]]:
    """Rooms that reach each other by imports, two or more each."""
    reached = {room: {edge.imported for edge in edges if edge.importer == room} for room in rooms}
    for middle in rooms:  # Warshall
        for room in rooms:
            if middle in reached[room]:
                reached[room] |= reached[middle]
    groups = {
        tuple(other for other in rooms if other in reached[room] and room in reached[other])
        for room in rooms
        if room in reached[room]
    }
    return [list(group) for group in sorted(groups)]


def best_order(circle: list[str], edges: list[Edge]) -> list[str]:
    """An order of rooms, lowest first, in which few imports point upward: each room is moved while that helps."""
    weight = Counter((edge.importer, edge.imported) for edge in edges)
    order = sorted(circle, key=lambda room: sum(n for (importer, _), n in weight.items() if importer == room))

    def count_upward(order: list[str]) -> int:
        return sum(weight[low, high] for index, low in enumerate(order) for high in order[index + 1 :])

    best = count_upward(order)
    while True:
        tried = [
            [*rest[:place], room, *rest[place:]]
            for room in order
            for rest in [[other for other in order if other != room]]
            for place in range(len(order))
        ]
        order_tried = min(tried, key=count_upward)
        if count_upward(order_tried) >= best:
            return order
        order, best = order_tried, count_upward(order_tried)


def find_widest(trees: dict[str, ast.Module]) -> tuple[int, str]:
    """Parameters of the public function or method that has most, and where it is."""
    found = [
        (_count_parameters(function), f"{file}:{function.lineno} {function.name}")
        for file, tree in trees.items()
        for function in _public_functions(tree.body)
    ]
    return max(found, default=(0, ""), key=lambda one: (one[0], one[1]))


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _count_parameters(function: ast.FunctionDef) -> int:
    every = function.args
    names = [argument.arg for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")]) + bool(every.vararg) + bool(every.kwarg)


def describe(house: House, *, who: bool = False, edges: bool = False) -> Iterator[str]:
    """The lines that are printed."""
    yield "part        files that know it (their lines), and its own files"
    for part, files in house.known.items():
        yield f"  {part:10}{len(files):3} ({sum(files.values())})  own: {', '.join(house.own[part]) or 'none'}"
        if who:
            yield from (f"      {count:4} {file}" for file, count in sorted(files.items(), key=lambda one: -one[1]))
    for package, rooms in house.rooms.items():
        kinds = Counter(edge.kind for edge in rooms.in_circles)
        yield f"{package}: {len(rooms.rooms)} rooms, {rooms.imports} imports among them, {len(rooms.upward)} upward"
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        yield f"  imports in circles: {len(rooms.in_circles)}" + (f" ({told})" if told else "")
        yield from (f"  circle of {len(circle)}: {', '.join(circle)}" for circle in rooms.circles)
        for edge in rooms.in_circles if edges else rooms.upward:
            mark = "^" if edge in rooms.upward else " "
            yield f"    {mark} {edge.importer} -> {edge.imported}  {edge.file}:{edge.line} ({edge.kind})"
    for package, count in house.lines.items():
        longest, widest = house.longest[package], house.widest[package]
        yield f"{package}: {count:,} lines, {longest[0]} in {longest[1]}; {widest[0]} parameters of {widest[1]}"


def _unpack(root: Path, rev: str, folder: Path) -> Path:
    """The packages of a revision, in `folder`."""
    command = ["git", "-C", str(root), "archive", rev, *PACKAGES]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"git has no tree of {rev}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rev", help="measure this revision of git, not the files as they are")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="folder that holds the packages")
    parser.add_argument("--json", action="store_true", help="print all that is measured, as JSON")
    parser.add_argument("--who", action="store_true", help="name the files that know a part")
    parser.add_argument("--edges", action="store_true", help="list all imports in circles, not only those upward")
    return parser.parse_args()


if __name__ == "__main__":
    main()

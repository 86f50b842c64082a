"""Draws docs/imports.svg: which folder imports which, read from the code.

    python docs/draw_imports.py            writes the drawing
    python docs/draw_imports.py --check    exit 1 where the drawing is not of this code

Boxes are the folders and loose modules of a package, the lowest imported ones at the bottom. An
arrow stands for imports; those that follow from others are left out (transitive reduction).
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "imports.svg"
PACKAGES = ("edge_runtime", "train", "export", "benchmarks")
_COLOURS = {
    "edge_runtime": "#d7e8fa", "train": "#e2f1dd", "export": "#fbe9cf", "benchmarks": "#f0e2f4"
}  # fmt: skip
_LEFT_OUT = {"__main__"}  # every package has one, above all others
_BOX, _GAP, _ROW, _MARGIN, _HEAD = (118, 34), 14, 74, 20, 46


def room(module: str) -> str:
    """edge_runtime.images.readers.dicom -> edge_runtime.images."""
    return ".".join(module.split(".")[:2])


def room_graph() -> nx.DiGraph:
    """Edges from the importing to the imported room; a room knows the number of its modules."""
    sys.path.insert(0, str(ROOT))
    found = grimp.build_graph(*PACKAGES, cache_dir=None)
    graph = nx.DiGraph()
    for module in sorted(found.modules):
        name = room(module)
        if "." not in name or name.partition(".")[2] in _LEFT_OUT:
            continue
        graph.add_node(name)
        graph.nodes[name]["modules"] = graph.nodes[name].get("modules", 0) + 1
    for module in found.modules:
        for imported in found.find_modules_directly_imported_by(module):
            pair = room(module), room(imported)
            if pair[0] != pair[1] and all(name in graph for name in pair):
                graph.add_edge(*pair)
    return graph


def floors(graph: nx.DiGraph) -> dict[str, int]:
    """0 for what imports nothing of ours, else one above the highest that it imports."""
    floor: dict[str, int] = {}
    for name in reversed(list(nx.lexicographical_topological_sort(graph))):
        floor[name] = 1 + max((floor[below] for below in graph.successors(name)), default=-1)
    return floor


def draw(graph: nx.DiGraph) -> str:
    """The first package at the left, the others above each other beside it."""
    blocks = {
        p: _block(graph.subgraph(n for n in graph if n.startswith(p + "."))) for p in PACKAGES
    }
    first, *others = PACKAGES
    left = blocks[first].width + 3 * _MARGIN
    parts, top = [_placed(blocks[first], first, _MARGIN, _MARGIN)], float(_MARGIN)
    for package in others:
        parts.append(_placed(blocks[package], package, left, top))
        top += blocks[package].height + _MARGIN
    width = left + max(blocks[p].width for p in others) + _MARGIN
    height = max(top, blocks[first].height + 2 * _MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">\n<style>text {{ font: 13px system-ui, sans-serif; '
        "fill: #222 } .package { font-weight: bold; font-size: 16px } .small, .count { font-size: "
        "11px; fill: #555 } .room, .count { text-anchor: middle } rect { stroke: #8899aa } path { "
        "fill: none; stroke: #889; stroke-width: 1.2; marker-end: url(#a) }</style>\n"
        '<marker id="a" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><polygon points="0,0 8,4 0,8" fill="#889"/></marker>\n'
        f'<rect width="{width:g}" height="{height:g}" fill="#fff" stroke="none"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


@dataclasses.dataclass(frozen=True)
class Block:
    """The drawing of one package, its upper left corner at (0, 0)."""

    width: float
    height: float
    content: str


def _block(rooms: nx.DiGraph) -> Block:
    rows: dict[int, list[str]] = {}
    floor = floors(rooms)
    for name in sorted(rooms):
        rows.setdefault(floor[name], []).append(name)
    step = _BOX[0] + _GAP
    width = max(max(map(len, rows.values())) * step - _GAP, 250)
    height = _HEAD + _ROW * len(rows)
    centre = {
        name: (
            (width - len(names) * step + _GAP) / 2 + i * step + _BOX[0] / 2,
            height - _BOX[1] / 2 - level * _ROW,
        )
        for level, names in rows.items()
        for i, name in enumerate(names)
    }
    modules = sum(rooms.nodes[name]["modules"] for name in rooms)
    parts = [
        f'<text y="32" class="small">{modules} modules, {rooms.number_of_edges()} imports between '
        "folders</text>"
    ]
    for above, below in sorted(nx.transitive_reduction(rooms).edges):
        (x1, y1), (x2, y2) = centre[above], centre[below]
        parts.append(
            f'<path d="M{x1:.0f},{y1 + _BOX[1] / 2:.0f} C{x1:.0f},{y1 + 50:.0f} '
            f'{x2:.0f},{y2 - 50:.0f} {x2:.0f},{y2 - _BOX[1] / 2 - 3:.0f}"/>'
        )
    for name, (x, y) in sorted(centre.items()):
        parts.append(
            f'<rect x="{x - _BOX[0] / 2:.0f}" y="{y - _BOX[1] / 2:.0f}" width="{_BOX[0]}" '
            f'height="{_BOX[1]}" rx="5" fill="{_COLOURS[name.partition(".")[0]]}"/>'
            f'<text x="{x:.0f}" y="{y - 2:.0f}" class="room">{name.partition(".")[2]}</text>'
            f'<text x="{x:.0f}" y="{y + 12:.0f}" class="count">'
            f"{count(rooms.nodes[name]['modules'])}</text>"
        )
    return Block(width, height, "\n".join(parts))


def _placed(block: Block, package: str, left: float, top: float) -> str:
    return (
        f'<g transform="translate({left:g} {top:g})"><text y="14" class="package">'
        f"{package}</text>\n"
        f"{block.content}</g>"
    )


def count(modules: int) -> str:
    return "a module" if modules == 1 else f"{modules} modules"


def main() -> int:
    text = draw(room_graph())
    if "--check" in sys.argv[1:]:
        same = DRAWING.is_file() and DRAWING.read_text(encoding="utf-8") == text
        if not same:
            print("docs/imports.svg is of older code: python docs/draw_imports.py", file=sys.stderr)
        return int(not same)
    DRAWING.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

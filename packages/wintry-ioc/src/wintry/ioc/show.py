"""A graph for people: a tree of one key, a Mermaid flowchart of all.

The tree is drawn in depth, with a stack of its own, so that a long chain of needs is no deep recursion. A node that
several need is drawn where it comes first, and is named with an ellipsis elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from .graph import Edge, Graph, Node
from .hints import dotted, short
from .registry import Kind


def tree(root: Node) -> str:
    """A node and what it needs, indented; what was drawn above is not drawn again."""
    lines: list[str] = [_line(root)]
    drawn = {root}
    waiting = [_branches(root, "", lines, drawn)]
    while waiting:
        deeper = next(waiting[-1], None)
        if deeper is None:
            waiting.pop()
        else:
            waiting.append(_branches(*deeper, lines, drawn))
    return "\n".join(lines)


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart: an arrow from each node to what it needs."""
    numbers = {node: f"n{number}" for number, node in enumerate(graph.nodes.values())}
    lines = ["flowchart TD"]
    lines += [f'    {number}["{short(node.key)}<br/>{_state(node)}"]' for node, number in numbers.items()]
    lines += [
        f"    {numbers[node]} -- {edge.dependency.name} --> {numbers[target]}"
        for node in numbers
        for edge in node.edges
        for target in edge.targets
    ]
    return "\n".join(lines)


def _branches(node: Node, indent: str, lines: list[str], drawn: set[Node]) -> Iterator[tuple[Node, str]]:
    """Draw what a node needs; yields each node, and its indentation, whose own needs come next."""
    below = [(edge, target) for edge in node.edges for target in (edge.targets or (None,))]
    for position, (edge, target) in enumerate(below):
        last = position == len(below) - 1
        head = f"{indent}{'└─' if last else '├─'} {edge.dependency.name}: "
        if target is None:
            lines.append(head + _unfilled(edge))
        elif target in drawn:
            lines.append(f"{head}{_line(target)} …")
        else:
            drawn.add(target)
            lines.append(head + _line(target))
            yield target, indent + ("   " if last else "│  ")


def _unfilled(edge: Edge) -> str:
    if edge.logger:
        return "logging.Logger (named after the class that asks)"
    if edge.many:
        return f"{dotted(edge.dependency.key)} (empty)"
    return f"{dotted(edge.dependency.key)} (not provided: {edge.dependency.default!r})"


def _line(node: Node) -> str:
    because = f", because of {node.cause[-1][1].name}" if node.cause else ""
    return f"{node.name} ({_state(node)}{because})"


def _state(node: Node) -> str:
    if node.recipe.kind is Kind.VALUE:
        return "value"
    return "context value" if node.recipe.kind is Kind.CONTEXT else node.lifetime

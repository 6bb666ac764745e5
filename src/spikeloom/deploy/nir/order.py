"""The order in which a graph's nodes run, and its loops."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ...neurons import Neuron
from .units import NirError

Sources = Mapping[str, list[str]]


def flat(
    nir: Any, graph: Any
) -> tuple[dict[str, Any], dict[str, list[str]], list[str], tuple[int, ...] | None]:
    """Return a graph without subgraphs, inputs and outputs.

    Returns:
        The nodes by name; for each, what it sums ("input" for the network's input); what adds up to the
        output; the shape of the input, if it has one.

    Raises:
        NirError: not one input and one output, edges from or to nodes that are none, dead ends.
    """
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    _open(nir, graph, "", nodes, edges)
    tops = {
        kind: [n for n, node in graph.nodes.items() if isinstance(node, kind)]
        for kind in (nir.Input, nir.Output)
    }
    for kind, found in tops.items():
        if len(found) != 1:
            raise NirError(
                f"the graph has {len(found)} nodes of class {kind.__name__}, {found}; a network has one"
            )
    start, end = _safe(tops[nir.Input][0]), _safe(tops[nir.Output][0])
    shape = _shape(nodes[start])
    before: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        before[target].append(source)
    ports = [
        n for n, node in nodes.items() if isinstance(node, (nir.Input, nir.Output)) and n not in (start, end)
    ]
    for port in ports:  # a subgraph's input or output hands on what it is given
        for name, given in before.items():
            if port in given:
                if port == name:
                    raise NirError(f"node {port!r} leads to itself")
                before[name] = [s for one in given for s in (before[port] if one == port else [one])]
        del before[port], nodes[port]
    ends = ["input" if s == start else s for s in before.pop(end)]
    before.pop(start)
    sources = {n: ["input" if s == start else s for s in given] for n, given in before.items()}
    for name in (start, end):
        del nodes[name]
    if not ends:
        raise NirError("nothing leads to the graph's output")
    needed, stack = set(), [n for n in ends if n != "input"]
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        needed.add(name)
        if not sources[name]:
            raise NirError(f"nothing leads to node {name!r} ({type(nodes[name]).__name__})")
        stack += [s for s in sources[name] if s != "input"]
    order = _walk(sources, needed)
    return {n: nodes[n] for n in order}, {n: sources[n] for n in order}, ends, shape


def _walk(sources: Sources, needed: set[str]) -> list[str]:
    """Return the nodes by their distance from the input, then by name: a file keeps no order of its own."""
    order, now, left = [], {"input"}, set(needed)
    while now:
        now = {n for n in left if not now.isdisjoint(sources[n])}
        order += sorted(now)
        left -= now
    return order + sorted(left)


def _open(nir: Any, graph: Any, prefix: str, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> None:
    ports: dict[str, tuple[str, str]] = {}
    for name, node in graph.nodes.items():
        label = prefix + _safe(name)
        if isinstance(node, nir.NIRGraph):
            inner = {
                k: [n for n, part in node.nodes.items() if isinstance(part, k)]
                for k in (nir.Input, nir.Output)
            }
            for kind, found in inner.items():
                if len(found) != 1:
                    raise NirError(
                        f"subgraph {label!r} has {len(found)} nodes of class {kind.__name__}; one is needed"
                    )
            _open(nir, node, f"{label}_", nodes, edges)
            ports[name] = (f"{label}_{_safe(inner[nir.Input][0])}", f"{label}_{_safe(inner[nir.Output][0])}")
        else:
            if label in nodes:
                raise NirError(f"two nodes are called {label!r}")
            nodes[label] = node
            ports[name] = (label, label)
    seen: set[tuple[str, str]] = set()
    for source, target in graph.edges:
        for name in (source, target):
            if name not in ports:
                raise NirError(f"an edge leads from {source!r} to {target!r}, but there is no node {name!r}")
        if (source, target) in seen:
            raise NirError(f"two edges lead from {source!r} to {target!r}")
        seen.add((source, target))
        edges.append((ports[source][1], ports[target][0]))


def _safe(name: Any) -> str:
    """Return a name that a module may have."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    text = text.replace(".", "_")
    return f"{text}_" if text in ("input", "") else text


def _shape(node: Any) -> tuple[int, ...] | None:
    types = node.input_type if isinstance(node.input_type, Mapping) else {}
    found = types.get("input")
    return None if found is None else tuple(int(n) for n in np.atleast_1d(found))


@dataclass(frozen=True)
class Loop:
    """Nodes each of which leads to each other."""

    names: tuple[str, ...]

    def cut(
        self, layers: Mapping[str, nn.Module], sources: Sources, ends: Collection[str]
    ) -> set[tuple[str, str]]:
        """Return the pairs (node, source) where what was said a step ago is heard, so that all can run.

        From where the loop is entered one walks along; where the walk comes back, the last neuron on its way
        is heard late. Delays of a step and more break loops by themselves.

        Raises:
            NirError: a way around that meets neither a membrane nor a delay.
        """
        inside = set(self.names)
        delayed = {n for n in inside if getattr(layers[n], "breaks_loops", False)}
        late: set[tuple[str, str]] = set()
        users = {n: [m for m in self.names if n in sources[m] and m not in delayed] for n in self.names}
        entries = [n for n in self.names if set(sources[n]) - inside] + list(self.names)
        while True:
            way = _circle(users, entries, late)
            if way is None:
                return late
            if not any(isinstance(layers[n], Neuron) and layers[n].states for n in way):
                raise NirError(
                    f"the loop {' -> '.join((*way, way[0]))} holds neither a neuron with a membrane nor a "
                    "delay of a step or more, so that no node of it can be the first to run; put one in"
                )
            for k in range(len(way) - 1, -1, -1):
                if isinstance(layers[way[k]], Neuron):
                    late.add((way[(k + 1) % len(way)], way[k]))
                    break


def _circle(
    users: Mapping[str, list[str]], entries: list[str], late: set[tuple[str, str]]
) -> list[str] | None:
    """Return a way around, from where it is entered; None if there is none."""
    done: set[str] = set()
    for entry in entries:
        if entry in done:
            continue
        way, nexts = [entry], [iter(users[entry])]
        while way:
            target = next((m for m in nexts[-1] if (m, way[-1]) not in late), None)
            if target is None:
                done.add(way.pop())
                nexts.pop()
            elif target in way:
                return way[way.index(target) :]
            elif target not in done:
                way.append(target)
                nexts.append(iter(users[target]))
    return None


def loops_of(sources: Sources) -> list[Loop]:
    """Return the loops of a graph: its strongly connected parts, of two nodes or one that hears itself."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[Loop] = []
    for root in sources:
        if root in index:
            continue
        work = [(root, iter(sources[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            name, rest = work[-1]
            after = next((s for s in rest if s != "input" and (s not in index or s in stack)), None)
            if after is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    at = stack.index(name)
                    part = stack[at:]
                    del stack[at:]
                    if len(part) > 1 or name in sources[name]:
                        found.append(Loop(tuple(n for n in sources if n in part)))
            elif after in index:
                low[name] = min(low[name], index[after])
            else:
                index[after] = low[after] = len(index)
                stack.append(after)
                work.append((after, iter(sources[after])))
    return found


def order_of(sources: Sources, late: set[tuple[str, str]], delayed: Collection[str]) -> list[str]:
    """Return the nodes so that each comes after what it hears at once; delays first."""
    order = [name for name in sources if name in delayed]
    done = {"input", *order}
    rest = [name for name in sources if name not in done]
    while rest:
        ready = [n for n in rest if all(s in done or (n, s) in late for s in sources[n])]
        assert ready, "a loop is left"
        order += ready
        done |= set(ready)
        rest = [n for n in rest if n not in done]
    return order

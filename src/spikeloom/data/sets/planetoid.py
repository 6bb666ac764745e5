"""Cora and Citeseer, networks of papers that cite each other, with the split of Planetoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..kinds import Graph, Nodes
from ..pickles import Sparse, read_pickle
from ..registry import data_set
from ..samples import Stored

_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
_VALIDATION = 500  # nodes, after the training nodes


def _info(name: str, title: str, train: int, classes: tuple[str, ...], sums: tuple[str, ...]) -> Info:
    files = tuple(
        File(
            name=f"planetoid/ind.{name}.{part}",
            addresses=(
                f"https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/ind.{name}.{part}",
                f"https://cdn.jsdelivr.net/gh/kimiyoung/planetoid@master/data/ind.{name}.{part}",
            ),
            sha256=sha256,
        )
        for part, sha256 in zip(_PARTS, sums, strict=True)
    )
    return Info(
        name=name,
        title=title,
        kind="graph",
        splits={"train": 1, "val": 1, "test": 1},
        classes=classes,
        licence="MIT (the files of Planetoid)",
        citation="Yang et al., Revisiting semi-supervised learning with graph embeddings, ICML 2016",
        homepage="https://github.com/kimiyoung/planetoid",
        files=files,
    )


@data_set(
    _info(
        "cora",
        "2,708 papers on machine learning, their words and citations; 140 / 500 / 1,000 nodes",
        140,
        (
            "theory",
            "reinforcement learning",
            "genetic algorithms",
            "neural networks",
            "probabilistic methods",
            "case based",
            "rule learning",
        ),
        (
            "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
            "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
            "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
            "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
            "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
            "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
            "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
            "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
        ),
    ),
    _info(
        "citeseer",
        "3,327 papers of computer science, their words and citations; 120 / 500 / 1,000 nodes",
        120,
        (
            "artificial intelligence",
            "machine learning",
            "information retrieval",
            "databases",
            "agents",
            "HCI",
        ),
        (
            "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
            "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
            "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
            "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
            "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
            "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
            "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
            "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
        ),
    ),
)
class Planetoid(Stored):
    """Sample: the `Graph`: words as features, undirected edges. Label: `Nodes`: the split's, their classes.

    There is one sample a split. Self-loops and repeated edges of the files are left out. Nodes of Citeseer
    that nothing is known of have no words, and are in no split.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        parts = {}
        for part, file in zip(_PARTS, info.files, strict=True):
            content = files.path(file.name).read_bytes()
            parts[part] = content if part == "test.index" else read_pickle(content, file.name)
        try:
            self._graph, self._nodes = _assemble(parts, split)
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{info.name}: its files do not fit together ({error}); get them again"
            ) from error

    def __len__(self) -> int:
        return 1

    def item(self, index: int) -> tuple[Graph, Nodes]:
        """Return the graph, and the split's nodes."""
        return self._graph, self._nodes


def _assemble(parts: dict[str, Any], split: str) -> tuple[Graph, Nodes]:
    listed = np.array(parts["test.index"].split(), np.int64)
    first, last = int(listed.min()), int(listed.max())
    known: Sparse = parts["allx"]
    train, rest = len(parts["y"]), known.shape[0]
    features = np.zeros((last + 1, known.shape[1]), np.float32)
    classes = np.zeros(last + 1, np.int64)
    if first != rest:
        raise ValueError(f"the test nodes begin at {first}, after {rest} others")
    features[:rest], classes[:rest] = known.dense(), parts["ally"].argmax(1)
    features[listed], classes[listed] = parts["tx"].dense(), parts["ty"].argmax(1)
    start = {"train": 0, "val": train}
    index = (
        np.sort(listed)
        if split == "test"
        else np.arange(start[split], train + (split == "val") * _VALIDATION)
    )
    graph = Graph(torch.from_numpy(features), _edges(parts["graph"], last + 1))
    return graph, Nodes(torch.from_numpy(index), torch.from_numpy(classes[index]))


def _edges(neighbours: dict[int, list[int]], count: int) -> torch.Tensor:
    pairs = np.array([(a, b) for a, others in neighbours.items() for b in others if a != b], np.int64)
    if pairs.min() < 0 or pairs.max() >= count:
        raise ValueError("an edge to no node")
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    return torch.from_numpy(both.T.copy())

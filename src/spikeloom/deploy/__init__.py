"""Networks carried elsewhere: read as graphs, and written for other formats and devices."""

from .graph import Graph, Node, Ref, read_network

__all__ = ["Graph", "Node", "Ref", "read_network"]

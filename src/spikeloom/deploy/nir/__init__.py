"""Graphs of the Neuromorphic Intermediate Representation: `sl.to_nir`, `sl.from_nir`."""

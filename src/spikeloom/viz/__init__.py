"""Plots in matplotlib, for notebooks and reports."""

"""Runs the comparison: rows, processes, figures, bars and reports."""

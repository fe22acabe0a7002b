"""Servers under test, one process each."""

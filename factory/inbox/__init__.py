"""Turns dropped files into units, and splits a unit into smaller units.

Nothing here runs an agent or a gate.
"""

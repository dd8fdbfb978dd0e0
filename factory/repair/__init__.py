"""Bringing records and the world together after a crash, a copy or a restored backup.

What must not live here: the ordinary course of a unit.
"""

"""Bringing records and the world together again after a crash, a copy, a restored backup or a deleted folder.

What must not live here: the ordinary course of a unit.
"""

"""How records and the world are brought together after a crash, a copy or a restored backup.

What must not live here: the ordinary course of a unit.
"""

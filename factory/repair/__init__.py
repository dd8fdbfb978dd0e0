"""Makes records and the world agree again after a crash, a copy or a restored backup.

What must not live here: the normal life of a unit.
"""

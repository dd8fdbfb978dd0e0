"""How records and the world are reconciled after a crash, a copy or a restored backup.

What must not live here: the normal life of a unit.
"""

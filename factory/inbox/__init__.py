"""How a dropped file becomes a unit, and how a unit becomes smaller ones.

Nothing here runs an agent or judges.
"""

"""Takes submitted units to trunk: decides what may land, and in which order.

This room runs no agent, and it gives messages to a person only as cards.
"""

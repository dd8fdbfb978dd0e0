"""Takes submitted units to trunk: decides what may land, and in which order.

This room runs no agent, and it tells a person something only with a card.
"""

"""From submission to trunk: what may land, in which order, and what has landed.

What must not live here: anything that runs an agent, or that talks to a person but by a card.
"""

"""One go at a unit: what its agent is told, what is seen of it, and what its end means.

What must not live here: which unit hangs next (dispatch), and anything about judging or landing.
"""

"""One attempt at a unit: its prompt, its run, and what its end means.

What must not live here: which unit gets a hook next (dispatch), and anything about judging or
landing.
"""

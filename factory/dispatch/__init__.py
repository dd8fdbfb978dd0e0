"""Which unit hangs next, on which worker, with which agent, and for how much money.

Nothing here starts a process, reads a tree or moves trunk.
"""

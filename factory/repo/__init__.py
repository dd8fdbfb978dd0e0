"""Git: trunk, workspaces and benches, kept trees, and the messages of commits.

Nothing here knows units' states.
"""

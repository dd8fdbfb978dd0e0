"""Git: trunk, workspaces and benches, kept trees, and the messages of commits.

No module here knows the states of units.
"""

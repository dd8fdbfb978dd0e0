"""How a repository is judged and set up where nobody said so: read from its files, and from nothing else.

Nothing here runs a command.
"""

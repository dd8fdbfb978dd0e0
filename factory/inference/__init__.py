"""How a repository is judged and set up, read from the files of one commit.

Nothing here runs a command.
"""

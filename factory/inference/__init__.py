"""Finds out how a repository is judged and set up, from the files of one commit.

Nothing here runs a command.
"""

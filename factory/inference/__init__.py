"""Finds out how to judge and set up a repository, from the files of one commit.

No module here runs a command.
"""

"""Decides which unit starts next, on which worker, with which agent and with how much money.

Nothing here starts a process, reads a tree or moves trunk.
"""

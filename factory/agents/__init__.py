"""Agents that run on the command line: how to start them, and how to read their output.

Each kind of agent has a file in conventions/runtimes/.
"""

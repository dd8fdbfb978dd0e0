"""Command-line agents: how to run their commands, and how to read their output.

Each kind of agent has a file in conventions/runtimes/.
"""

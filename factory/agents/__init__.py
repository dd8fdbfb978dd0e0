"""What a command-line agent is: how it is run, and how what it prints is read.

Kinds of agents are files in conventions/runtimes/. Nothing here knows units or attempts.
"""

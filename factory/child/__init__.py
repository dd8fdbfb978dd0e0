"""Starts programs, limits what they see and use, and inspects other processes of the machine.

Only this room starts processes. What must not live here: anything that knows the purpose of a
program.
"""

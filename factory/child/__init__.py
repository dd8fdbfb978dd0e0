"""Programs that the factory starts, and other processes of the machine that concern it.

What must not live here: anything that knows what the programs are for.
"""

"""Programs that the factory starts, what they may see and use, and other processes of the machine.

The only place that spawns. What must not live here: anything that knows what the programs are for.
"""

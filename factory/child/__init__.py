"""Programs that factoryd starts, what they may see and use, and other processes of the machine.

Only this room starts processes. What must not live here: anything that knows what the programs are
for.
"""

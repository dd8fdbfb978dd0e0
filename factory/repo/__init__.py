"""What the factory writes into a repository, and reads from one.

What must not live here: anything that knows the store, units or cards.
"""

"""What only a person can decide: cards, their options, and the answers.

This room changes only records; it starts no work and moves no trunk.
"""

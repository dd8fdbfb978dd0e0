"""What only a person can decide: cards, their options, and the answers.

Nothing here acts on an answer; that is left to the rooms above.
"""

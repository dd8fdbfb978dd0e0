"""What a verdict rests on: which files a gate changed, where the project's modules come from.

What must not live here: who is judged when (queue), and what becomes of a unit that is red.
"""

"""What a verdict rests on: the environment, the gates, what they changed, and the guards.

Nothing here moves trunk.
"""

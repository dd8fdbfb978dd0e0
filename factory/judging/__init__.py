"""What a verdict rests on: the environment, the gates, what they changed, and the rules for what may land.

Nothing here moves trunk.
"""

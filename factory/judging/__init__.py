"""What a verdict depends on: the environment, the gates, their changes, and the guards.

No module here moves trunk.
"""

"""What a person types. Parses, calls, prints; the only place that prints.

What must not live here: decisions, and imports at module level that `factory status` would pay for.
"""

"""What is on record: units, attempts, verdicts, cards, the journal, and where they are kept.

Nothing here knows git, processes or what a record leads to.
"""

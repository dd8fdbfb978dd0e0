"""The records: units, attempts, verdicts, cards and the journal, and the store that keeps them.

Nothing here knows git or processes, or acts on a record.
"""

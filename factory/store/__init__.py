"""The records: units, attempts, verdicts, cards, the journal, and the store that keeps them.

No module here knows git or processes, and none acts on a record.
"""

"""Judging: what an environment consists of and how it is put back as it was, for benches and workspaces alike.

Not here: which commits are judged and in which order (queue/), and what an agent may do (attempt/).
"""

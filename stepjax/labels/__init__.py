"""Automatic step labels: completions of prefixes, tree search, a prompted judge, and consensus of two labellers."""

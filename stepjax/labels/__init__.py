"""Step labels without people: completions of prefixes, tree search, a prompted judge, and where two of them agree."""

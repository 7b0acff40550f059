"""Expert iteration: a policy searches, learns what the search found, and searches again."""

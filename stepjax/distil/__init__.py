"""Chosen responses as conversations, from which any trainer of chat models distils a policy."""

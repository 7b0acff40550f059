"""Responses of a policy to a file: what rejection sampling, distillation and inspection start from."""

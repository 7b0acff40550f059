"""The stages that train a policy."""

POLICIES = ("sft", "improve", "ppo")
"""In the order of training. Where no stage is named, the last one that was trained is meant."""

NEWEST = "ppo where it was trained, else improve, else sft (or the checkpoint of model.path)"
"""In the help of options that may be left empty."""

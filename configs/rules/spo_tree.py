"""SPO-tree, 2505.23564: each branch against the mean of all branches of the same node.

    A = V(child) − mean of the parent's children, its own included;  a node is the same tokens before a step

Differs: the tree is that of the responses' common beginnings, sampled independently; V(child) is a response's own
outcome, whose mean over the child's responses is the authors' value. Edges without credit stay in the mean of the loss.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    state = {"unit": "step", "baseline": "mean", "among": "state", "when": "return"}
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, whiten=False, **state),
    }
    return config

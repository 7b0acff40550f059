"""Turn rewards against the other responses, without the bias of verl issue 7244.

    A_k = G_k − mean of the other responses' G_k,  G_k = Σ of the rewards from turn k on, 0 after a response's end

Differs: Σ_{k ≥ t}(r_k − m_k) subtracts as many terms as the row has turns left, and so pays or fines an extra turn; the
correction is derived here, the issue's own was not seen.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    turn = {"unit": "turn", "baseline": "others", "among": "index", "when": "return"}
    config.ppo.streams = {
        "process": stream(signal="verifier", horizon="response", whiten=False, **turn),
    }
    return config

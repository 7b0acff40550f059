"""Credit: from rewards on tokens to the weight that the policy gradient gives each token."""

from stepjax.credit.gae import segment_gae

__all__ = ["segment_gae"]

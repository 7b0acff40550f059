"""`stepjax plan`: compile a run's own programs for a TPU topology without a TPU, and report what they need."""

"""Several processes (hosts) of one run: joining, watching one another, stopping together, sharing rows."""

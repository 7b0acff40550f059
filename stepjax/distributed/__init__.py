"""Several processes (hosts) of one run: joining, heartbeats, stopping together, sharing rows."""

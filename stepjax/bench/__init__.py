"""`stepjax bench`: time and memory of a run's programs, compared with the machine's peak."""

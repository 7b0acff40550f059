"""`stepjax bench`: what each program of a run takes, against what the machine can do."""

"""`stepjax search`: search over steps, with a policy that samples them and a scorer that rates what it wrote."""

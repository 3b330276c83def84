"""Pipelines to read, run and copy from. Nothing in StreamFlow depends on them."""

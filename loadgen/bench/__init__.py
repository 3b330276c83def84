"""Measures systems on one work: same input, own subprocess each, answers verified against a batch reference.

`systems.py` is where a system is added. Nothing here is imported by the framework; importing this package alone must
stay cheap, because what a measured process imports counts as its start-up.
"""

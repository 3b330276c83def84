"""Turns a pipeline into stages and runs their steps. A stage is a maximal chain of transforms between two logs; a
task is a stage on one partition; a step reads a batch at an offset, computes it, and commits outputs, offset and
state as one.
"""

"""Runs plans: worker, supervisor, assignment, autoscaler, and `Pipeline`, the graph that users build and run."""

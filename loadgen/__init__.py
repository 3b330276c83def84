"""Publishes events to topics: a real data set replayed, or a synthetic profile, at a chosen speed."""

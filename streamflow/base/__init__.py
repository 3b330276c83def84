"""Errors, clock, settings, metric names: what every layer may use and what knows no other layer."""

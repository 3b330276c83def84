"""What can be published: one module per profile, each a description of its events; none publishes or waits.

A profile yields a `Dataset`: event number → event, so that any range of it can be made again after a crash.
"""

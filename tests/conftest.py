"""What holds for every test: how long hypothesis may search."""

from hypothesis import settings

# A first call into Polars or a busy machine is no failure, so examples have no deadline.
settings.register_profile("streamflow", deadline=None, max_examples=40)
settings.load_profile("streamflow")

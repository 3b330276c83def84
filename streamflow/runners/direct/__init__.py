"""Apache Beam's package of this name."""

"""Apache Beam's package of this name: what a command line says of a pipeline. Here may live how options are read and
kept; what they do is decided where they are used."""

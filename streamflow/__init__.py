"""StreamFlow: topics, Beam-style pipelines on elastic workers, columnar tables and wide rows."""

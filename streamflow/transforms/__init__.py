"""What users compose pipelines of. Transforms say what is to be done; no execution and no I/O happens here."""

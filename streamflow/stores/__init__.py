"""Where results rest: Delta tables (`table/`), wide rows (`widerow/`) and files (`files/`), each with an exactly-once
writer. Files are read from there too.

A store knows offsets, never pipelines: every durable effect carries the input offset it covers, and what is stored
already is skipped when it comes again. No engine, no topics, no clock; cell times and offsets come from the caller.
`root` is everywhere the folder of the tables (`<data>/tables`) or of the row stores (`<data>/rows`); each of them is a
folder in it.
"""

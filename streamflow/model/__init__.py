"""Pure decisions and data: time, windows, watermarks, combiners, the pipeline graph. No I/O, no clock, no threads."""

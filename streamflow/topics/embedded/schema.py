"""The tables of the database; `truth.py` says what they are for."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE topic (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    retention_s REAL NOT NULL,
    internal INTEGER NOT NULL,
    watermark_us INTEGER NOT NULL
) STRICT;
CREATE TABLE part (
    topic_id INTEGER NOT NULL REFERENCES topic ON DELETE CASCADE,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0,
    next_byte INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,
    refs INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE chunk (
    topic_id INTEGER NOT NULL REFERENCES topic ON DELETE CASCADE,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    count INTEGER NOT NULL,
    byte_start INTEGER NOT NULL,
    file_id INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    len INTEGER NOT NULL,
    published_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE producer (
    topic_id INTEGER NOT NULL REFERENCES topic ON DELETE CASCADE,
    name TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (topic_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE pipeline (
    name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    stopping INTEGER NOT NULL DEFAULT 0,
    workers_wanted INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL REFERENCES pipeline ON DELETE CASCADE,
    stage TEXT NOT NULL,
    partition INTEGER NOT NULL,
    topic_id INTEGER NOT NULL REFERENCES topic,
    offset INTEGER NOT NULL DEFAULT 0,
    watermark_us INTEGER NOT NULL,
    hold_us INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    owner TEXT,
    assigned TEXT,
    counters BLOB NOT NULL DEFAULT x'7b7d',
    UNIQUE (pipeline, stage, partition)
) STRICT;
CREATE INDEX task_topic ON task (topic_id, partition);
CREATE TABLE state (
    task_id INTEGER NOT NULL REFERENCES task ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    file_id INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    len INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    watermark_us INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    low_us INTEGER NOT NULL,
    high_us INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    PRIMARY KEY (task_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL REFERENCES pipeline ON DELETE CASCADE,
    pid INTEGER NOT NULL,
    process_started REAL NOT NULL,
    heartbeat_us INTEGER NOT NULL,
    draining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER chunk_added AFTER INSERT ON chunk BEGIN
    UPDATE file SET refs = refs + 1 WHERE id = new.file_id; END;
CREATE TRIGGER chunk_dropped AFTER DELETE ON chunk BEGIN
    UPDATE file SET refs = refs - 1 WHERE id = old.file_id; END;
CREATE TRIGGER state_added AFTER INSERT ON state BEGIN
    UPDATE file SET refs = refs + 1 WHERE id = new.file_id; END;
CREATE TRIGGER state_dropped AFTER DELETE ON state BEGIN
    UPDATE file SET refs = refs - 1 WHERE id = old.file_id; END;
"""

"""A stream becomes events, a session and a record; records are stored, read, merged and measured."""

"""The storage service: it owns bytes (artifacts, segments, outputs, reports, logs) and decides nothing."""

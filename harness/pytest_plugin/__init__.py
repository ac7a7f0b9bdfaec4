"""The only importer of pytest: options, task folders as items, fixtures, xdist."""

"""One trial, from a fresh sandbox to its record."""

"""Tests, run in a sandbox by scripts of ours; what the code under test prints or exits with is no verdict."""

"""Sandboxes on this machine: what keeps them apart, and the guest inside that acts for the server."""

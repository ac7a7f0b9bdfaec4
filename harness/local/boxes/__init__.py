"""Sandboxes on this machine: their isolation, and the guest inside that acts for the server."""

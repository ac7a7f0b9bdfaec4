"""What a sandbox may reach, and the way there."""

"""The source of the model's replies: an API, or a recorded session that is replayed."""

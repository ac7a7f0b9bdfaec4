"""Where the model's replies come from: an API, or a recorded session that is replayed."""

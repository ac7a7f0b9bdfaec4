"""Many trials: engine, budget, rounds, resume, shards, forecast."""

"""variants.toml becomes Variants: what each brings into a sandbox, and a stable hash of it."""

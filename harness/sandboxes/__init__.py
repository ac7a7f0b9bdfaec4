"""E2B's SDK behind one module: sandboxes, templates, what runs in them, and what is left of them."""

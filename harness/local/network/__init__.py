"""The network of sandboxes: rules, and the proxy that enforces them."""

"""The daemon that E2B runs in every sandbox: its commands, files and terminals, spoken over RPC."""

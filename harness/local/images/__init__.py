"""Container images without a container engine: named, fetched, and unpacked to a root file system."""

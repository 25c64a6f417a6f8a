"""Which runs a sweep consists of, and how they are run on this machine."""

"""Tar shards, here or in an object store."""

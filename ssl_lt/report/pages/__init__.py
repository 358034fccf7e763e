"""The pages, in HTML without network."""

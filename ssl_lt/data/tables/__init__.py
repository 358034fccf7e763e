"""Tables of images: one protocol for pixels in memory, files, parquet and shards."""

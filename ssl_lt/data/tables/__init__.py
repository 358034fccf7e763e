"""Tables of images: one class for pixels in memory, files, parquet and shards.

Others import `decode_once`, `files`, `finder`, `hub`, `parquet`, `shards`, `table`.
"""

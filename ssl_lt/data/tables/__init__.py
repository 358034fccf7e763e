"""Tables of images: one class for pixels in memory, files, parquet and shards.

Others import `boxes`, `decode_once`, `files`, `finder`, `grouping`, `hub`, `parquet`, `shards`,
`table`.
"""

"""From a table of studies to arrays: configuration, manifest, readers, preprocessing, splits, cache and batches."""

"""The streaming buffer: pictures decoded once, shared by all workers, cut into batches."""

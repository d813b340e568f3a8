"""What knows nothing of pictures, networks and studies: files, processes, messages, registries."""

"""The classical filters: a registry, kernels, functions of users, and batches on a device."""

"""The cases of `pyworkflow.testing.storage.StorageConformance`."""

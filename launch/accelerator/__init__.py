"""The accelerator kit: what to run first on a GPU or a TPU."""

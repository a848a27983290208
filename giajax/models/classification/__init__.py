"""Image classifiers, one architecture per file."""

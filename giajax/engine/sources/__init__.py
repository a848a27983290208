"""Where the updates that are attacked come from."""

"""The two studies that giajax is based on, one config per table."""

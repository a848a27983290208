"""Networks that find objects, built from layers with torch's semantics."""

"""What a finished run says: rows, arrays and how to read them."""

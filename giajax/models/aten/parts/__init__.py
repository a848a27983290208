"""What the operators share, and what runs them."""

"""How a plan is run somewhere."""

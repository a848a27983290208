"""What an audited system could change, and what each change does."""

"""What the losses of several tasks share."""

"""What tasks are made of: objects in images, boxes, and losses of detectors."""

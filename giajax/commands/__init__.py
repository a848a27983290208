"""What `giajax` can be asked for: flags, a call, and what is printed."""

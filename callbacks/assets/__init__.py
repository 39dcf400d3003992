"""Reading pixels off the scan's thread."""

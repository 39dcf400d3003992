"""What could not be processed, kept with its origin, the reason and its bytes; and what ended the process twice."""

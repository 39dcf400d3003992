"""What was measured, as `dvfb evaluate --table` prints it; installed as `dvfb_stream.results`."""

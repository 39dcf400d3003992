"""What was measured, as `dvfb tables` prints it; installed as `dvfb_stream.results`."""

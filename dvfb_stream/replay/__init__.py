"""Runs that were recorded or stored are published again, for commissioning, benchmarks and reports of faults."""

"""A beamline of real parts that can be killed, for benchmarks of the daemon: broker, publishers, daemons."""

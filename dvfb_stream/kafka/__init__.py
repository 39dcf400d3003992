"""The daemon that annotates the documents a beamline publishes to Kafka."""

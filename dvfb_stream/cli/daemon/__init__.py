"""``dvfb daemon``: annotates the runs of a beamline as they are taken; and what an operator asks of it."""

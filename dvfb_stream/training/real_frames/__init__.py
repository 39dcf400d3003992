"""How far labels hold on frames that no simulator made: weighed by set-up, with intervals over set-ups."""

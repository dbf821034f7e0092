"""Many edits, many sequences, all members of the demo family: the measurements behind `docs`."""

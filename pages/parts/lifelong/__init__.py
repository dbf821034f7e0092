"""The parts of the page that makes many edits, one after another."""

"""Files: text read whatever its encoding, files written whole or not at all, locks held while they are in use."""

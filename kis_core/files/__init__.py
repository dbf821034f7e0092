"""Files on disk: text in any encoding, CSV records, files written whole or not at all, and locks between processes."""

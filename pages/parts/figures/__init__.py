"""Charts, tables and the pair inspector, with captions, provenance and export."""

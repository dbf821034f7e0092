"""The parts of the page that makes one edit."""

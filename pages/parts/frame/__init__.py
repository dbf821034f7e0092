"""The frame every page stands in: navigation, choices, links and text."""

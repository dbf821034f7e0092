"""The embedded demo family: its facts, its text, its models, and the scripts that trained and measured them."""

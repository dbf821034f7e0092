"""Work in the background: what runs, what it needs, what it found."""

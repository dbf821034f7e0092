"""Work in the background: what it needs, how it is begun, waited for and resumed, and the results it leaves."""

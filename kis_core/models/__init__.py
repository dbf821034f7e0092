"""Language models: which there are, how they load, and where the key of a fact lives in them."""
